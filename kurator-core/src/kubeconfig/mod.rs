//! A member's kubeconfig, out of a Secret and into a client configuration that is safe to use.
//!
//! Whoever may write that Secret is not thereby trusted to run programs in this process or to read its files, and
//! a kubeconfig can ask for both. So the file is not handed on: [`parse`] picks the one context it names, checks
//! every field against a [`KubeconfigPolicy`], and builds a new configuration of the accepted fields alone. What
//! the policy does not allow is a [`KubeconfigError`] that names the cluster, the Secret and the field, and never
//! repeats what the field held.
//!
//! | field | by default | opt in |
//! |---|---|---|
//! | `users[].user.exec` | refused | [`KubeconfigPolicy::with_exec_command`], command by command |
//! | `users[].user.auth-provider` | refused | [`KubeconfigPolicy::with_auth_provider`] |
//! | `certificate-authority`, `client-certificate`, `client-key`, `tokenFile` | refused | [`KubeconfigPolicy::with_file_paths`] |
//! | `clusters[].cluster.proxy-url` | refused | [`KubeconfigPolicy::with_proxy_of_kubeconfig`] |
//! | `clusters[].cluster.server` with `http:` | refused | [`KubeconfigPolicy::with_plain_http`] |
//! | `clusters[].cluster.insecure-skip-tls-verify: true` | refused | [`KubeconfigPolicy::with_insecure_tls`] |
//! | a user name or password inside `server` | refused | none: Kubernetes has no use for it |
//!
//! Entries that the current context does not use are dropped unread. `HTTPS_PROXY` and its kin in the environment
//! of the process are not used for members either: see [`KubeconfigPolicy::with_proxy`].
//!
//! The format: <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>.

mod error;
mod parse;
mod policy;
mod secret;
#[cfg(test)]
mod tests;

pub use self::{
    error::KubeconfigError,
    parse::{KubeconfigSource, accept, parse},
    policy::KubeconfigPolicy,
    secret::{DEFAULT_KEYS, KubeconfigPlace, KubeconfigRef, kubeconfig_text},
};
