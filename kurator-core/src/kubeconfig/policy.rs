use std::{collections::BTreeSet, fmt};

/// What a kubeconfig that somebody else wrote may ask of this process. The default allows nothing but inline
/// credentials over TLS with a verified server.
///
/// ```
/// use kurator_core::kubeconfig::KubeconfigPolicy;
///
/// // Members on EKS log in with a program the host has installed; nothing else is run.
/// let policy = KubeconfigPolicy::default().with_exec_command("aws-iam-authenticator");
/// assert!(policy.allows_exec("aws-iam-authenticator"));
/// assert!(!policy.allows_exec("/bin/sh"));
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct KubeconfigPolicy {
    exec_commands: BTreeSet<String>,
    auth_provider: bool,
    file_paths: bool,
    proxy_of_kubeconfig: bool,
    proxy: Option<String>,
    plain_http: bool,
    insecure_tls: bool,
}

impl KubeconfigPolicy {
    /// Allows `exec` entries whose `command` is exactly `command`.
    ///
    /// # Caveats
    /// The arguments and environment of the command stay the choice of whoever writes the Secret. Do not allow a
    /// command that can be talked into running others, such as a shell, `env` or an interpreter.
    #[must_use]
    pub fn with_exec_command(mut self, command: impl Into<String>) -> Self {
        self.exec_commands.insert(command.into());
        self
    }

    /// Allows the legacy `auth-provider` entries, which may run a command or call a URL of their choice.
    #[must_use]
    pub fn with_auth_provider(mut self) -> Self {
        self.auth_provider = true;
        self
    }

    /// Allows file paths: the process then reads any file it may read and the kubeconfig names.
    #[must_use]
    pub fn with_file_paths(mut self) -> Self {
        self.file_paths = true;
        self
    }

    /// Allows the kubeconfig to choose the proxy its credentials travel through.
    #[must_use]
    pub fn with_proxy_of_kubeconfig(mut self) -> Self {
        self.proxy_of_kubeconfig = true;
        self
    }

    /// Sends every connection to members through this proxy (`http:` and `socks5:` need kube's feature of that
    /// name), whatever the environment says. A proxy of the kubeconfig, where allowed, goes first.
    #[must_use]
    pub fn with_proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Allows `http:` servers: the credentials then cross the network in the clear.
    #[must_use]
    pub fn with_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Allows `insecure-skip-tls-verify`: the credentials then go to whoever answers.
    #[must_use]
    pub fn with_insecure_tls(mut self) -> Self {
        self.insecure_tls = true;
        self
    }

    /// Whether `exec` entries with this command are allowed.
    pub fn allows_exec(&self, command: &str) -> bool {
        self.exec_commands.contains(command)
    }

    /// Whether `auth-provider` entries are allowed.
    pub fn allows_auth_provider(&self) -> bool {
        self.auth_provider
    }

    /// Whether file paths are allowed.
    pub fn allows_file_paths(&self) -> bool {
        self.file_paths
    }

    /// Whether `proxy-url` is allowed.
    pub fn allows_proxy_of_kubeconfig(&self) -> bool {
        self.proxy_of_kubeconfig
    }

    /// Whether `http:` servers are allowed.
    pub fn allows_plain_http(&self) -> bool {
        self.plain_http
    }

    /// Whether `insecure-skip-tls-verify` is allowed.
    pub fn allows_insecure_tls(&self) -> bool {
        self.insecure_tls
    }

    pub(super) fn has_exec_commands(&self) -> bool {
        !self.exec_commands.is_empty()
    }

    pub(super) fn proxy(&self) -> Option<&str> {
        self.proxy.as_deref()
    }
}

/// A proxy URL may carry a password, so only its presence is shown.
impl fmt::Debug for KubeconfigPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeconfigPolicy")
            .field("exec_commands", &self.exec_commands)
            .field("auth_provider", &self.auth_provider)
            .field("file_paths", &self.file_paths)
            .field("proxy_of_kubeconfig", &self.proxy_of_kubeconfig)
            .field("proxy", &self.proxy.as_ref().map(|_| "set"))
            .field("plain_http", &self.plain_http)
            .field("insecure_tls", &self.insecure_tls)
            .finish()
    }
}
