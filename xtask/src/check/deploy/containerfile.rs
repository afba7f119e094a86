//! An image's recipe: its stages are there before they are used, what is released is what it copies, and the images it makes start as a
//! driver container does.

/// The program that an image starts, as its recipe says it.
const ENTRYPOINT: &str = "[\"nic-driver\", \"run\"]";
/// The targets, which are the container's modes and so the images' commands.
const MODES: [&str; 2] = ["sources", "precompiled"];
/// What of a release goes into an image.
const PROGRAMS: [&str; 2] = ["nic-driver", "nic-driver-sidecar"];

/// An image that is made on the way, or at the end.
#[derive(Debug, Default)]
struct Stage<'a> {
    name: &'a str,
    from: &'a str,
    entrypoint: Option<&'a str>,
    command: Option<&'a str>,
    copied: Vec<&'a str>,
}

/// What is wrong with the recipe in `text`.
pub(super) fn find(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let mut violations = Vec::new();
    let mut stages: Vec<Stage<'_>> = Vec::new();
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (instruction, stages.last_mut()) {
            ("FROM", _) => match rest.split_once(" AS ") {
                Some((from, name)) => stages.push(Stage { name, from, ..Stage::default() }),
                None => violations.push(format!("`{line}` has no name")),
            },
            ("ENTRYPOINT", Some(stage)) => stage.entrypoint = Some(rest),
            ("CMD", Some(stage)) => stage.command = Some(rest),
            ("COPY", Some(stage)) => match rest.strip_prefix("--from=") {
                None => stage.copied.extend(rest.split_whitespace()),
                Some(other) => {
                    let other = other.split_whitespace().next().unwrap_or_default();
                    if !stages.iter().any(|stage| stage.name == other) {
                        violations.push(format!("`{line}` copies from {other}, which is not there before"));
                    }
                }
            },
            ("ARG", _) | ("ENV" | "RUN" | "WORKDIR", Some(_)) => {}
            _ => violations.push(format!("`{line}` is not expected there")),
        }
    }
    for mode in MODES {
        violations.extend(image(&stages, mode).err());
    }
    violations
}

/// Looks at the image that is the stage of a mode, with all the stages it is made of.
fn image(stages: &[Stage<'_>], mode: &str) -> Result<(), String> {
    let mut chain = Vec::new();
    let mut next = Some(mode);
    while let Some(stage) = next.and_then(|name| stages.iter().find(|stage| stage.name == name)) {
        chain.push(stage);
        next = Some(stage.from).filter(|from| *from != stage.name);
    }
    let target = chain.first().ok_or(format!("no stage is called {mode}"))?;
    if target.command != Some(&*format!("[\"{mode}\"]")) {
        return Err(format!("the command of the stage {mode} is not its mode"));
    }
    if chain.iter().find_map(|stage| stage.entrypoint) != Some(ENTRYPOINT) {
        return Err(format!("the image {mode} does not start {ENTRYPOINT}"));
    }
    match PROGRAMS.iter().find(|program| !chain.iter().any(|stage| stage.copied.contains(program))) {
        Some(program) => Err(format!("the image {mode} has no {program}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "ARG BASE\nFROM ${BASE} AS base\nCOPY nic-driver nic-driver-sidecar /usr/bin/\n\
        ENTRYPOINT [\"nic-driver\", \"run\"]\n# x\nFROM base AS sources\nRUN a \\\n && b\nCMD [\"sources\"]\n\
        FROM base AS precompiled\nCOPY --from=sources /a /\nCMD [\"precompiled\"]\n";

    #[test]
    fn what_would_not_start_is_found() {
        let found = |text: &str| find(text);
        assert_eq!(found(RIGHT), [""; 0]);
        for (from, to, expected) in [
            (
                "--from=sources",
                "--from=built",
                "`COPY --from=built /a /` copies from built, which is not there before",
            ),
            ("CMD [\"sources\"]\n", "", "the command of the stage sources is not its mode"),
            (
                "CMD [\"precompiled\"]",
                "CMD [\"sources\"]",
                "the command of the stage precompiled is not its mode",
            ),
            ("\"run\"", "\"reload\"", "the image sources does not start [\"nic-driver\", \"run\"]"),
            ("nic-driver-sidecar", "sidecar", "the image sources has no nic-driver-sidecar"),
            ("AS precompiled", "AS modules", "no stage is called precompiled"),
            ("RUN a", "USER a", "`USER a   && b` is not expected there"),
            (" AS sources", "", "`FROM base` has no name"),
        ] {
            let changed = RIGHT.replacen(from, to, 1);
            assert_eq!(found(&changed).first().map(String::as_str), Some(expected), "{changed}");
        }
    }
}
