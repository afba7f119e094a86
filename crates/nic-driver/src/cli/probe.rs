//! `probe`: one line, and an exit code.

use super::arguments::Cli;
use super::output::{fail, show};
use super::settings::{family, machine, store};
use crate::Exit;
use crate::phase::{self, Probe};

pub(super) fn probe(cli: &Cli, asked: Probe) -> Exit {
    let family = match family(cli) {
        Ok(family) => family,
        Err(error) => return fail(cli, &error, Exit::Usage),
    };
    let answer = phase::probe(&machine(cli), &family, &store(cli), &cli.readiness_file, asked);
    show(cli, &answer, answer.exit())
}
