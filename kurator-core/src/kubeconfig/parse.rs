use http::Uri;
use kube::config::{
    AuthInfo, Cluster, Config, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use secrecy::{ExposeSecret, SecretString};

use super::{KubeconfigError, KubeconfigPlace, KubeconfigPolicy};
use crate::names::ClusterName;

const SERVER: &str = "clusters[].cluster.server";
const CA_DATA: &str = "clusters[].cluster.certificate-authority-data";
const PROXY: &str = "clusters[].cluster.proxy-url";
/// The one name everything has in the configuration that is built.
const NAME: &str = "member";

/// Whose kubeconfig it is and where it was found: what errors name.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "an argument in two parts")]
pub struct KubeconfigSource<'a> {
    /// Member.
    pub cluster: &'a ClusterName,
    /// The object on the hub that holds it.
    pub place: &'a KubeconfigPlace,
}

impl KubeconfigSource<'_> {
    fn missing(self, field: &'static str) -> KubeconfigError {
        KubeconfigError::Missing {
            cluster: self.cluster.clone(),
            place: self.place.clone(),
            field,
        }
    }

    fn invalid(self, field: &'static str, problem: &'static str) -> KubeconfigError {
        KubeconfigError::Invalid {
            cluster: self.cluster.clone(),
            place: self.place.clone(),
            field,
            problem,
        }
    }
}

/// Reads the current context of a kubeconfig into a client configuration, under `policy`.
///
/// # Guarantees
/// The configuration holds only what the policy allows; files are read and programs run, later and by kube, only
/// if it says so. The environment of the process is not part of the result.
///
/// # Errors
/// [`KubeconfigError`], without any value of the file in it.
pub fn parse(
    source: KubeconfigSource<'_>,
    text: &SecretString,
    policy: &KubeconfigPolicy,
) -> Result<Config, KubeconfigError> {
    let file = Kubeconfig::from_yaml(text.expose_secret()).map_err(|error| syntax(source, &error))?;
    let context_name = file
        .current_context
        .as_deref()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| source.missing("current-context"))?;
    let context = file
        .contexts
        .iter()
        .find(|entry| entry.name == context_name)
        .and_then(|entry| entry.context.as_ref())
        .ok_or_else(|| source.missing("contexts[] of current-context"))?;
    let cluster = file
        .clusters
        .iter()
        .find(|entry| entry.name == context.cluster)
        .and_then(|entry| entry.cluster.as_ref())
        .ok_or_else(|| source.missing("clusters[] of the context"))?;
    let user = match context.user.as_deref().filter(|name| !name.is_empty()) {
        None => AuthInfo::default(),
        Some(name) => file
            .auth_infos
            .iter()
            .find(|entry| entry.name == name)
            .and_then(|entry| entry.auth_info.clone())
            .ok_or_else(|| source.missing("users[] of the context"))?,
    };

    accept(source, cluster, user, context.namespace.as_deref(), policy)
}

/// A client configuration of what an object other than a kubeconfig says about a cluster, and of the user to be there,
/// under the same `policy`.
///
/// # Guarantees
/// Those of [`parse`].
///
/// # Errors
/// [`KubeconfigError`], without any value in it.
pub fn accept(
    source: KubeconfigSource<'_>,
    cluster: &Cluster,
    user: AuthInfo,
    namespace: Option<&str>,
    policy: &KubeconfigPolicy,
) -> Result<Config, KubeconfigError> {
    let cluster = accepted_cluster(source, cluster, policy)?;
    let proxy = proxy(source, &cluster, policy)?;
    let accepted = Kubeconfig {
        clusters: vec![NamedCluster {
            name: NAME.to_owned(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: NAME.to_owned(),
            auth_info: Some(accepted_user(source, user, policy)?),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: NAME.to_owned(),
            context: Some(Context {
                cluster: NAME.to_owned(),
                user: Some(NAME.to_owned()),
                namespace: namespace.map(str::to_owned),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        current_context: Some(NAME.to_owned()),
        ..Kubeconfig::default()
    };
    let mut config = Config::try_from(accepted).map_err(|error| match error {
        kube::config::KubeconfigError::ParseProxyUrl(_) => {
            source.invalid(PROXY, "of the environment (HTTPS_PROXY) is not a URL")
        }
        _ => source.invalid(CA_DATA, "is not a base64 PEM bundle"),
    })?;
    // kube falls back to HTTPS_PROXY; which way a member's credentials take is not left to the environment.
    config.proxy_url = proxy;
    Ok(config)
}

fn syntax(source: KubeconfigSource<'_>, error: &kube::config::KubeconfigError) -> KubeconfigError {
    let location = match error {
        kube::config::KubeconfigError::Parse(error) => error.location(),
        _ => None,
    };
    KubeconfigError::Syntax {
        cluster: source.cluster.clone(),
        place: source.place.clone(),
        line: location.map_or(0, |location| location.line()),
        column: location.map_or(0, |location| location.column()),
    }
}

fn accepted_cluster(
    source: KubeconfigSource<'_>,
    cluster: &Cluster,
    policy: &KubeconfigPolicy,
) -> Result<Cluster, KubeconfigError> {
    let server = present(&cluster.server).ok_or_else(|| source.missing(SERVER))?;
    let uri: Uri = server
        .parse()
        .map_err(|_| source.invalid(SERVER, "is not a URL, for example https://host:6443"))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if policy.allows_plain_http() => {}
        Some("http") => {
            return Err(KubeconfigError::PlainHttpRefused {
                cluster: source.cluster.clone(),
                place: source.place.clone(),
                field: SERVER,
            });
        }
        _ => return Err(source.invalid(SERVER, "is neither https nor http")),
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(KubeconfigError::CredentialsInUrl {
            cluster: source.cluster.clone(),
            place: source.place.clone(),
            field: SERVER,
        });
    }
    if cluster.insecure_skip_tls_verify == Some(true) && !policy.allows_insecure_tls() {
        return Err(KubeconfigError::InsecureTlsRefused {
            cluster: source.cluster.clone(),
            place: source.place.clone(),
            field: "clusters[].cluster.insecure-skip-tls-verify",
        });
    }
    if present(&cluster.proxy_url).is_some() && !policy.allows_proxy_of_kubeconfig() {
        return Err(KubeconfigError::ProxyRefused {
            cluster: source.cluster.clone(),
            place: source.place.clone(),
            field: PROXY,
        });
    }
    let certificate_authority = file_path(
        source,
        policy,
        &cluster.certificate_authority,
        "clusters[].cluster.certificate-authority",
        "certificate-authority-data",
    )?;
    Ok(Cluster {
        server: Some(server.to_owned()),
        insecure_skip_tls_verify: cluster.insecure_skip_tls_verify,
        certificate_authority,
        certificate_authority_data: owned(&cluster.certificate_authority_data),
        proxy_url: owned(&cluster.proxy_url),
        disable_compression: cluster.disable_compression,
        tls_server_name: owned(&cluster.tls_server_name),
        // Exec plugins are configured through an extension; nothing else is read from them.
        extensions: if policy.has_exec_commands() {
            cluster.extensions.clone()
        } else {
            None
        },
        ..Cluster::default()
    })
}

fn accepted_user(
    source: KubeconfigSource<'_>,
    user: AuthInfo,
    policy: &KubeconfigPolicy,
) -> Result<AuthInfo, KubeconfigError> {
    if let Some(exec) = &user.exec
        && !exec
            .command
            .as_deref()
            .is_some_and(|command| policy.allows_exec(command))
    {
        return Err(KubeconfigError::ExecRefused {
            cluster: source.cluster.clone(),
            place: source.place.clone(),
            field: "users[].user.exec",
        });
    }
    if user.auth_provider.is_some() && !policy.allows_auth_provider() {
        return Err(KubeconfigError::AuthProviderRefused {
            cluster: source.cluster.clone(),
            place: source.place.clone(),
            field: "users[].user.auth-provider",
        });
    }
    let path = |value, field, inline| file_path(source, policy, value, field, inline);
    Ok(AuthInfo {
        token_file: path(&user.token_file, "users[].user.tokenFile", "token")?,
        client_certificate: path(
            &user.client_certificate,
            "users[].user.client-certificate",
            "client-certificate-data",
        )?,
        client_key: path(&user.client_key, "users[].user.client-key", "client-key-data")?,
        username: user.username,
        password: user.password,
        token: user.token,
        client_certificate_data: owned(&user.client_certificate_data),
        client_key_data: user.client_key_data,
        impersonate: user.impersonate,
        impersonate_uid: user.impersonate_uid,
        impersonate_groups: user.impersonate_groups,
        impersonate_user_extra: user.impersonate_user_extra,
        auth_provider: user.auth_provider,
        exec: user.exec,
        ..AuthInfo::default()
    })
}

fn proxy(
    source: KubeconfigSource<'_>,
    cluster: &Cluster,
    policy: &KubeconfigPolicy,
) -> Result<Option<Uri>, KubeconfigError> {
    let Some(url) = cluster.proxy_url.as_deref().or(policy.proxy()) else {
        return Ok(None);
    };
    url.parse()
        .map(Some)
        .map_err(|_| source.invalid(PROXY, "or the policy's proxy is not a URL"))
}

fn file_path(
    source: KubeconfigSource<'_>,
    policy: &KubeconfigPolicy,
    path: &Option<String>,
    field: &'static str,
    inline: &'static str,
) -> Result<Option<String>, KubeconfigError> {
    match present(path) {
        None => Ok(None),
        Some(path) if policy.allows_file_paths() => Ok(Some(path.to_owned())),
        Some(_) => Err(KubeconfigError::FilePathRefused {
            cluster: source.cluster.clone(),
            place: source.place.clone(),
            field,
            inline,
        }),
    }
}

/// Kubernetes reads an empty string as absent.
fn present(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

fn owned(value: &Option<String>) -> Option<String> {
    present(value).map(str::to_owned)
}
