//! Who may use a Unix socket. The kernel says who connects (unix(7), `SO_PEERCRED`), whatever the mode of the socket's file lets through.

use std::fmt;
use std::process::{Command, Stdio};

use super::super::error::CliError;

/// The users that a socket or an origin is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Users {
    /// Whoever gets through.
    All,
    /// These user ids.
    Only(Vec<u32>),
}

impl Users {
    /// This process' user, and root, who can be any user anyway.
    pub(super) fn own() -> Self {
        Self::Only(vec![0, rustix::process::getuid().as_raw()])
    }

    /// Of names, numbers, or `*` for all.
    ///
    /// # Errors
    /// When a name is none of this system's.
    pub(super) fn named(names: &[String]) -> Result<Self, CliError> {
        if names.iter().any(|name| name == "*") {
            return Ok(Self::All);
        }
        let Self::Only(mut users) = Self::own() else { return Ok(Self::All) };
        for name in names {
            users.push(id_of(name)?);
        }
        users.sort_unstable();
        users.dedup();
        Ok(Self::Only(users))
    }

    pub(super) fn admit(&self, uid: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(users) => users.contains(&uid),
        }
    }

    /// Whether others than this process' user and root are among them.
    pub(super) fn has_others(&self) -> bool {
        *self != Self::own() && *self != Self::Only(vec![0])
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all users"),
            Self::Only(users) => {
                let users: Vec<String> = users.iter().map(u32::to_string).collect();
                write!(f, "user ids {}", users.join(", "))
            }
        }
    }
}

/// By the system's own look-up, which may ask a directory service.
fn id_of(name: &str) -> Result<u32, CliError> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let wrong = |why: &str| CliError::Usage(format!("the user {name:?} {why}: write a user's name, its number, or * for all"));
    let is_name = !name.is_empty() && !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@+$\\".contains(c));
    if !is_name {
        return Err(wrong("is none"));
    }
    let output = Command::new("id").args(["-u", "--", name]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(|e| CliError::Unavailable(format!("cannot look up the user {name} (id -u): {e}")))?;
    let id = String::from_utf8_lossy(&output.stdout).trim().parse();
    id.ok().filter(|_| output.status.success()).ok_or_else(|| wrong("is not known here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_let_in_unless_named() {
        let own = Users::own();
        assert!(own.admit(0) && own.admit(rustix::process::getuid().as_raw()) && !own.admit(4_294_967_294) && !own.has_others());
        let named = Users::named(&["65534".into(), "root".into()]).expect("users");
        assert!(named.admit(65534) && named.admit(0) && !named.admit(12345) && named.has_others());
        assert_eq!(Users::named(&["*".into(), "root".into()]).expect("all"), Users::All);
        for name in ["", "-n", "no such user", "nobody-of-this-name", "a;b"] {
            assert!(Users::named(&[name.into()]).is_err(), "{name}");
        }
    }
}
