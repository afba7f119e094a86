use crate::{Invocation, Secret};

/// What every program is given that a [`crate::Host`] runs, beside what its own command says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramEnvironment {
    variables: Vec<(String, Secret)>,
    hidden: Vec<Secret>,
}

impl ProgramEnvironment {
    /// With a variable, unless a command sets it itself.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), Secret::new(value)));
        self
    }

    /// With a text that is hidden in what every program prints: programs inherit this process's environment, and some print it.
    #[must_use]
    pub fn hiding(mut self, secret: Secret) -> Self {
        if !self.hidden.contains(&secret) {
            self.hidden.push(secret);
        }
        self
    }

    /// The command with all of it.
    pub(crate) fn dress(&self, invocation: &Invocation) -> Invocation {
        let mut dressed = invocation.clone();
        let own = self.variables.iter().map(|(name, value)| (name.into(), value.reveal().into()));
        // The last of a name counts.
        dressed.env = own.chain(invocation.env.iter().cloned()).collect();
        self.hidden.iter().fold(dressed, Invocation::hiding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Host;

    #[tokio::test]
    async fn every_program_gets_the_variables_and_none_prints_the_secrets() {
        let programs = ProgramEnvironment::default()
            .variable("PROXY", "http://u:s3cret@p")
            .variable("OWN", "of the host")
            .hiding(Secret::new("s3cret"));
        let host = Host::running().with_programs(programs.clone());
        let script = Invocation::new("sh").args(["-c", "echo \"$PROXY $OWN\"; exit 3"]).env("OWN", "its own");
        let captured = host.run_to_end(&script).await.unwrap();
        assert_eq!(captured.stdout, "http://u:***@p its own\n");
        let mut lines = Vec::new();
        host.run_lines(&script, |line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(lines, ["http://u:***@p its own"]);
        let error = host.run(&script).await.unwrap_err();
        let log =
            host.hide_secrets(&script.clone().hiding(&Secret::new("t0ken")), "t0ken of http://u:s3cret@p");
        assert_eq!(log, "*** of http://u:***@p");
        let written = format!("{error} {error:?} {programs:?} {host:?}");
        assert!(!written.contains("s3cret"), "{written}");
    }
}
