use nic_host::{HIDDEN, ProgramEnvironment, Secret};

use crate::command::{Variable, Word};

/// The proxies for package managers, as the environment gives them.
///
/// libcurl (dnf, zypper) and apt read `http_proxy` in lower case alone, other programs read upper case: of a pair with one
/// given, programs get both. Where both are given, each keeps its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    environment: Vec<Variable>,
}

const PAIRS: [(&str, &str); 3] =
    [("HTTP_PROXY", "http_proxy"), ("HTTPS_PROXY", "https_proxy"), ("NO_PROXY", "no_proxy")];
/// A password that is shorter is hidden together with its user only: it would be found in every text.
const SHORTEST_PASSWORD: usize = 4;

impl Proxies {
    /// The proxies in these variables. An empty one counts as not given.
    #[must_use]
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let given: Vec<(String, String)> =
            variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let value = |name: &str| given.iter().find(|(given, _)| given == name).map(|(_, value)| value);
        let environment = PAIRS
            .iter()
            .flat_map(|(upper, lower)| {
                let (of_upper, of_lower) = (value(upper), value(lower));
                [(upper, of_upper.or(of_lower)), (lower, of_lower.or(of_upper))]
            })
            .filter_map(|(name, value)| Some(Variable::new(*name, masked(value?))))
            .collect();
        Self { environment }
    }

    /// Those of this process. A variable that is no UTF-8 is none of them.
    #[must_use]
    pub fn of_this_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::from_environment(std::env::vars_os().filter_map(text))
    }

    /// The variables for a program's environment, in upper and lower case.
    #[must_use]
    pub fn environment(&self) -> &[Variable] {
        &self.environment
    }

    /// The same for every program that a host runs, whichever plan its command is of.
    #[must_use]
    pub fn for_programs(&self) -> ProgramEnvironment {
        self.environment.iter().fold(ProgramEnvironment::default(), |programs, variable| {
            match &variable.value {
                Word::Plain(text) => programs.variable(&variable.name, text),
                Word::Hidden { value, parts, .. } => {
                    let programs = programs.variable(&variable.name, value.reveal()).hiding(value.clone());
                    parts.iter().cloned().fold(programs, ProgramEnvironment::hiding)
                }
            }
        })
    }
}

/// A proxy's address with what stands in front of the last `@` hidden, which is where user and password are.
fn masked(address: &str) -> Word {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let Some((user, place)) = rest.rsplit_once('@') else { return Word::Plain(address.to_owned()) };
    let decoded = percent_decoded(user);
    let mut texts = vec![user, &decoded];
    texts.dedup();
    let passwords = texts.iter().filter_map(|text| text.split_once(':').map(|(_, password)| password));
    let passwords: Vec<&str> = passwords.filter(|password| password.len() >= SHORTEST_PASSWORD).collect();
    let parts = texts.into_iter().chain(passwords).map(Secret::new).collect();
    Word::Hidden { value: Secret::new(address), shown: format!("{scheme}{HIDDEN}@{place}"), parts }
}

/// Programs print what they were given, and some print what it means.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = match (first, behind) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|code| u8::from_str_radix(code, 16).ok())
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let proxies = Proxies::from_environment(variables);
        proxies.environment().iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect()
    }

    #[test]
    fn of_a_pair_with_one_given_programs_get_both() {
        assert_eq!(shown(&[]), [""; 0]);
        assert_eq!(shown(&[("HTTP_PROXY", ""), ("PATH", "/bin")]), [""; 0]);
        let both = ["HTTP_PROXY=http://p:3128", "http_proxy=http://p:3128"];
        assert_eq!(shown(&[("HTTP_PROXY", "http://p:3128")]), both);
        assert_eq!(shown(&[("http_proxy", "http://p:3128"), ("HTTP_PROXY", "")]), both);
        assert_eq!(
            shown(&[
                ("HTTPS_PROXY", "http://a"),
                ("https_proxy", "http://b"),
                ("no_proxy", ".svc,10.0.0.0/8")
            ]),
            [
                "HTTPS_PROXY=http://a",
                "https_proxy=http://b",
                "NO_PROXY=.svc,10.0.0.0/8",
                "no_proxy=.svc,10.0.0.0/8"
            ]
        );
    }

    #[tokio::test]
    async fn every_program_of_a_host_gets_them() {
        let proxies = Proxies::from_environment([("HTTP_PROXY".to_owned(), "http://u:s3cret@p".to_owned())]);
        let host = nic_host::Host::running().with_programs(proxies.for_programs());
        let script =
            nic_host::Invocation::new("sh").args(["-c", "echo \"${#http_proxy} $HTTP_PROXY s3cret\""]);
        assert_eq!(host.run(&script).await.unwrap().stdout, "17 *** ***\n");
    }

    #[test]
    fn users_and_passwords_are_hidden() {
        for (address, expected, hidden) in [
            ("http://u:pass@p:3128", "http://***@p:3128", &["u:pass", "pass"][..]),
            ("u:p@ss/word@p:3128/", "***@p:3128/", &["u:p@ss/word", "p@ss/word"]),
            ("http://u:p%40ss@p", "http://***@p", &["u:p%40ss", "u:p@ss", "p%40ss", "p@ss"]),
            // Short ones only with their user, and tokens without a password at all.
            ("http://u:abc@p", "http://***@p", &["u:abc"]),
            ("http://t0ken@p", "http://***@p", &["t0ken"]),
        ] {
            let Word::Hidden { value, shown, parts } = masked(address) else { panic!("{address}") };
            assert_eq!((value.reveal(), shown.as_str()), (address, expected));
            assert_eq!(parts.iter().map(Secret::reveal).collect::<Vec<_>>(), hidden);
        }
        assert_eq!(masked("http://p:3128"), Word::Plain("http://p:3128".to_owned()));
        assert_eq!(percent_decoded("%4%zz%41"), "%4%zzA");
    }
}
