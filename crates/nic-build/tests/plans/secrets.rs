//! No secret is in anything that is written: plans, logs, errors, the build's log.

use std::io;
use std::sync::{Arc, Mutex};

use nic_build::{Plan, PlannedCommand, Proxies, Word, build};
use nic_host::{Captured, Host, Replay, Secret, error_chain};
use tracing_subscriber::fmt::MakeWriter;

use crate::machine::{commands, machines};

const TOKEN: &str = "C1AbCdEfToken";
const PASSWORD: &str = "p%40ssw0rd";
/// What must not be found: the token, the password, and the password as a program may print it.
const HIDDEN: [&str; 3] = [TOKEN, PASSWORD, "p@ssw0rd"];

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn proxies() -> Proxies {
    let address = format!("http://user:{PASSWORD}@proxy.example.org:3128");
    Proxies::from_environment([
        ("HTTP_PROXY".to_owned(), address.clone()),
        ("https_proxy".to_owned(), address),
    ])
}

fn assert_hidden(what: &str, text: &str) {
    for secret in HIDDEN {
        assert!(!text.contains(secret), "{secret} is in {what}:\n{text}");
    }
}

fn written(plan: &Plan) -> String {
    format!("{plan}\n{plan:?}\n{plan:#?}\n{}", serde_json::to_string(plan).unwrap())
}

#[tokio::test]
async fn plans_their_execution_and_their_errors_hold_no_secret() {
    let (log, _guard) = Log::begin();
    let token = Secret::new(TOKEN);
    let machine = machines().into_iter().find(|machine| machine.name == "ubuntu").unwrap();
    let dir = machine.tree();
    let host = Host::at(dir.path());
    let plans = machine.plans(&host, Some(&token));
    for (title, plan) in plans.plans() {
        let plan = plan.clone().with_environment(proxies().environment());
        assert_hidden(title, &written(&plan));
        // Programs that print all they know, and fail. The token is known to those of Ubuntu Pro alone.
        let known = if title == "FIPS" { TOKEN } else { "nothing" };
        let talkative = Captured {
            code: Some(1),
            stdout: format!("proxy http://user:{PASSWORD}@proxy.example.org:3128\n"),
            stderr: format!("attach {known} through user:p@ssw0rd failed\n"),
        };
        let all = commands(&plan.steps);
        let replay = all.iter().fold(Replay::default(), |replay, command| {
            replay.answer(command.invocation().to_string(), talkative.clone())
        });
        // One by one, since the first failure ends a plan.
        for command in &all {
            let alone = Plan { notes: vec![], steps: vec![(*command).clone().into()] };
            if let Err(error) = alone.apply(&host.with_replay(replay.clone())).await {
                let text = format!("{error} {error:?} {}", error_chain(&error));
                assert!(text.contains("through *** failed"), "{text}");
                assert_hidden("an error", &text);
            }
        }
        assert_hidden("a recorded command", &replay.asked().join("\n"));
    }
    let log = log.text();
    assert!(log.contains("pro attach --no-auto-enable ***") && log.contains("http://***@proxy"), "{log}");
    assert_hidden("the log", &log);
}

#[tokio::test]
async fn a_builds_log_and_error_hold_no_secret() {
    let (log, _guard) = Log::begin();
    let dir = tempfile::tempdir().unwrap();
    let named = dir.path().join("detail.log");
    let script = format!(
        "env; echo \"token $1\"; echo \"via $http_proxy and $HTTPS_PROXY\" > {0}; echo 'See {0}'; exit 1",
        named.display()
    );
    let command =
        PlannedCommand::new("build", ["sh", "-c", &script, "sh"]).args([Word::secret(&Secret::new(TOKEN))]);
    let plan = Plan { notes: vec![], steps: vec![command.into()] }.with_environment(proxies().environment());
    let command = commands(&plan.steps)[0];
    let path = dir.path().join("build.log");
    let mut told = String::new();
    let error = build(&Host::running(), command, &path, |progress| {
        told += &format!("{}\n{progress:?}\n", progress.line);
    })
    .await
    .unwrap_err();
    // The build itself was given them.
    let detail = std::fs::read_to_string(&named).unwrap();
    assert_eq!(detail.matches(PASSWORD).count(), 2, "{detail}");
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept.contains("https_proxy=***") && kept.contains("token ***"), "{kept}");
    assert_hidden("the build's log", &kept);
    assert_hidden("the progress", &told);
    let error = format!("{error} {error:?} {}", error_chain(&error));
    assert!(error.contains("via *** and ***"), "{error}");
    assert_hidden("the error", &error);
    assert_hidden("the log", &log.text());
}
