//! The signature of a message: HMAC-SHA256 over its id, its time and its body.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pgexport_api::reason::Reason;
use pgexport_api::source::SecretKeyRef;
use ring::hmac;

use crate::error::{Error, Result};
use crate::secret::Secrets;

/// What the text of a key begins with.
const PREFIX: &str = "whsec_";
/// How many bytes a key has, by the specification.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// The keys that messages are signed with: one, and while it is changed two.
pub(super) struct SigningKeys(Vec<hmac::Key>);

impl SigningKeys {
    /// Reads them from a Secret's key.
    pub(super) fn read(reference: &SecretKeyRef, secrets: &dyn Secrets) -> Result<Self> {
        let SecretKeyRef { name, key } = reference;
        let text = secrets.read_text(name, key)?;
        let keys: Option<Vec<hmac::Key>> = text.split_whitespace().map(parse).collect();
        keys.filter(|keys| !keys.is_empty()).map(Self).ok_or_else(|| {
            Error::new(Reason::SecretInvalid, format!("key {key} of Secret {name} is no signing key"))
                .with_hint("write whsec_ and the base64 of 24 to 64 random bytes there, such as by: echo whsec_$(openssl rand -base64 32)")
        })
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let signed = [format!("{id}.{seconds}.").as_bytes(), body].concat();
        let signature = |key| format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(key, &signed)));
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

fn parse(text: &str) -> Option<hmac::Key> {
    let bytes = BASE64_STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
    LENGTHS.contains(&bytes.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{MemorySecrets, Secret};

    fn keys(text: &str) -> Result<SigningKeys> {
        let mut secrets = MemorySecrets::default();
        secrets.insert("pager", "key", Secret::new(text.as_bytes().to_vec()));
        SigningKeys::read(&SecretKeyRef { name: "pager".to_owned(), key: "key".to_owned() }, &secrets)
    }

    /// The vector of the reference libraries' tests
    /// (<https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/javascript/src/index.test.ts>, "sign function works").
    #[test]
    fn a_signature_is_that_of_the_reference_libraries() {
        let keys = keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_a_key_is_changed_there_are_two_signatures() {
        let new = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        let keys = keys(&format!("{new} whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let signatures: Vec<&str> = signature.split(' ').collect();
        assert_eq!(signatures.len(), 2);
        assert_eq!(signatures[1], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for text in ["", "hunter2", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_hunter2", "whsec_aHVudGVyMg=="]
        {
            let error = keys(text).err().expect("a refusal");
            assert_eq!(error.reason(), Reason::SecretInvalid, "{text}");
            let told = format!("{error:?}");
            assert!(told.contains("key key of Secret pager") && told.contains("openssl"), "{told}");
            assert!(text.is_empty() || !told.contains(text), "{told}");
        }
    }
}
