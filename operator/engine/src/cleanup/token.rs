//! Which names are a run's own.

use pgexport_api::order::CleanupOrder;

/// The tokens of a run's attempts, one of which the name of each of its files contains.
#[derive(Debug)]
pub(super) struct Tokens(Vec<String>);

impl Tokens {
    pub(super) fn of(order: &CleanupOrder) -> Self {
        Self(order.tokens().collect())
    }

    /// Whether a key contains one of them, whole: attempt 1 is not attempt 12, and no longer number has a token in it.
    pub(super) fn name(&self, key: &str) -> bool {
        self.0.iter().any(|token| {
            key.match_indices(token.as_str()).any(|(start, found)| {
                let before = key[..start].bytes().next_back();
                let after = key[start + found.len()..].bytes().next();
                !before.is_some_and(|byte| byte.is_ascii_hexdigit())
                    && !after.is_some_and(|byte| byte.is_ascii_digit())
            })
        })
    }
}

#[cfg(test)]
impl<const N: usize> From<[&str; N]> for Tokens {
    fn from(tokens: [&str; N]) -> Self {
        Self(tokens.map(str::to_owned).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_runs_own_where_it_contains_a_whole_token() {
        let tokens = Tokens::from(["0b0c1d2e-1", "0b0c1d2e-2"]);
        for own in [
            "findings-00000-0b0c1d2e-1.json",
            "findings-0b0c1d2e-2",
            "0b0c1d2e-1",
            "run=0b0c1d2e-2/findings-00001.csv",
            "a-0b0c1d2e-12-0b0c1d2e-1.json",
        ] {
            assert!(tokens.name(own), "{own}");
        }
        for other in [
            "findings-00000-0b0c1d2e-12.json",
            "findings-00000-0b0c1d2e-3.json",
            "findings-00000-10b0c1d2e-1.json",
            "findings-00000-a0b0c1d2e-1.json",
            "findings-00000-0b0c1d2f-1.json",
            "findings-00000-0b0c1d2e.json",
            "_SUCCESS",
            "",
        ] {
            assert!(!tokens.name(other), "{other}");
        }
    }
}
