//! What the image gives the box by its config besides an address: a technician's keys, a time zone, Wi-Fi. The agent uses none of it.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;

/// Longest name of a Wi-Fi network in bytes (IEEE 802.11, 9.4.2.2).
const SSID_BYTES_MAX: usize = 32;
const SSH_KEY_BYTES_MAX: usize = 1024;

/// `ssh`, `timezone`, `country` and `network.wifi`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct System {
    /// `ssh.keys`: who may log in. Without one no ssh daemon runs.
    pub ssh_keys: Vec<SshKey>,
    /// `timezone`: by which the box's journal is dated; without it by that of the store.
    pub time_zone: Option<TimeZone>,
    /// `network.wifi`, with `country`.
    pub wifi: Option<Wifi>,
}

/// A public key as `ssh-keygen` prints it: kind, base64, perhaps a remark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey(String);

/// A Wi-Fi network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wifi {
    /// Its name: 1 to 32 bytes.
    pub ssid: Ssid,
    /// What it asks for; an open network has none.
    pub passphrase: Option<Passphrase>,
    /// Whose radio rules hold (ISO 3166).
    pub country: Country,
}

/// The name of a Wi-Fi network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssid(String);

/// A WPA passphrase, or a key of 64 hex digits. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

/// Two capital letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Country(String);

/// The text is not what it should be; the reader of the config says what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not what is allowed here")]
pub struct SystemError;

macro_rules! checked_text {
    ($kind:ident, $fits:expr) => {
        impl $kind {
            /// As it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $kind {
            type Err = SystemError;

            fn from_str(text: &str) -> Result<Self, SystemError> {
                let fits: fn(&str) -> bool = $fits;
                if fits(text) { Ok(Self(text.to_owned())) } else { Err(SystemError) }
            }
        }
    };
}

checked_text!(SshKey, is_ssh_key);
checked_text!(Ssid, |text| (1..=SSID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control));
checked_text!(Passphrase, is_passphrase);
checked_text!(Country, |text| text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()));

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(hidden)")
    }
}

impl Passphrase {
    /// Whether it is the key itself, not words that a key is made of.
    #[must_use]
    pub fn is_raw_key(&self) -> bool {
        self.0.len() == 64
    }
}

/// A line of `authorized_keys` without options: those could run commands.
fn is_ssh_key(text: &str) -> bool {
    let mut words = text.split(' ');
    let kind = words.next().is_some_and(|kind| {
        matches!(
            kind,
            "ssh-ed25519" | "ssh-rsa" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521"
        )
    });
    // All begin with the length of the kind, four bytes of which three are zero.
    let body = words.next().is_some_and(|body| {
        body.len() > 64
            && body.starts_with("AAAA")
            && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
    });
    kind && body && text.len() <= SSH_KEY_BYTES_MAX && !text.chars().any(char::is_control)
}

/// WPA: 8 to 63 printable characters of ASCII, or 64 hex digits.
fn is_passphrase(text: &str) -> bool {
    match text.len() {
        8..=63 => text.bytes().all(|b| (b' '..=b'~').contains(&b)),
        64 => text.bytes().all(|b| b.is_ascii_hexdigit()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_that_ssh_keygen_prints() {
        let body = format!("AAAAC3NzaC1lZDI1NTE5AAAAI{}", "b".repeat(43));
        for right in [format!("ssh-ed25519 {body}"), format!("ssh-ed25519 {body} mona@bench one")] {
            assert_eq!(right.parse::<SshKey>().unwrap().as_str(), right);
        }
        for wrong in [
            String::new(),
            body.clone(),
            format!("ssh-dss {body}"),
            format!("command=\"sh\" ssh-ed25519 {body}"),
            format!("ssh-ed25519 {body}\nssh-ed25519 {body}"),
            "ssh-ed25519 AAAAshort".to_owned(),
            format!("-----BEGIN OPENSSH PRIVATE KEY----- {body}"),
        ] {
            assert_eq!(wrong.parse::<SshKey>(), Err(SystemError), "{wrong}");
        }
    }

    #[test]
    fn wifi_values_are_what_the_standards_allow() {
        assert!("Café Central".parse::<Ssid>().is_ok());
        assert!("x".repeat(33).parse::<Ssid>().is_err());
        assert!("".parse::<Ssid>().is_err());
        assert!("eight888".parse::<Passphrase>().is_ok());
        assert!("seven77".parse::<Passphrase>().is_err());
        assert!("motdepassé".parse::<Passphrase>().is_err());
        assert!("a1".repeat(32).parse::<Passphrase>().unwrap().is_raw_key());
        assert!("z1".repeat(32).parse::<Passphrase>().is_err());
        assert!("TN".parse::<Country>().is_ok());
        assert!("tn".parse::<Country>().is_err());
    }

    #[test]
    fn a_passphrase_is_not_shown() {
        let wifi = Wifi {
            ssid: Ssid("shop".into()),
            passphrase: Some(Passphrase("secret-words".into())),
            country: Country("TN".into()),
        };
        assert!(!format!("{wifi:?}").contains("secret"));
    }
}
