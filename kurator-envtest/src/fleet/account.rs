//! Clients with few rights.

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject},
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
};
use secrecy::SecretString;

use super::{Error, Member, credentials::kubeconfig};

/// Longest life of a token; a test is over before.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

/// A service account of a member, with a token. Its rights are those that RBAC gives to
/// `system:serviceaccount:<namespace>:<name>`. It goes through the [`crate::Link`], as the administrator does.
#[derive(Clone, Debug)]
pub struct Account {
    member: String,
    config: Config,
    kubeconfig: SecretString,
}

impl Account {
    /// A new client of the account.
    ///
    /// # Errors
    /// [`Error::Api`] when no client can be made of the configuration.
    pub fn client(&self) -> Result<Client, Error> {
        Client::try_from(self.config()).map_err(Error::api(&self.member, "make a client"))
    }

    /// Configuration of [`Account::client`].
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// A kubeconfig with the account's token, all data inline.
    pub fn kubeconfig(&self) -> &SecretString {
        &self.kubeconfig
    }
}

impl Member {
    /// A service account and a token for it, both made if need be, with the namespace. It may do nothing yet
    /// but what RBAC objects applied before or after say: use this to run a controller under the very rules
    /// that are shipped with it.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub async fn account(&self, namespace: &str, name: &str) -> Result<Account, Error> {
        let client = self.direct_client()?;
        let action = |what: &str| format!("create {what} of account {namespace}/{name}");
        let meta = |name: &str| ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        let made = Namespace {
            metadata: meta(namespace),
            ..Namespace::default()
        };
        existing(
            Api::all(client.clone())
                .create(&PostParams::default(), &made)
                .await,
        )
        .map_err(Error::api(self.name(), action("the namespace")))?;
        let accounts = Api::<ServiceAccount>::namespaced(client, namespace);
        let made = ServiceAccount {
            metadata: meta(name),
            ..ServiceAccount::default()
        };
        existing(accounts.create(&PostParams::default(), &made).await)
            .map_err(Error::api(self.name(), action("the service account")))?;
        let spec = TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec: Some(spec),
            ..TokenRequest::default()
        };
        let issued = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .map_err(Error::api(self.name(), action("the token")))?;
        let token = SecretString::from(issued.status.and_then(|status| status.token).unwrap_or_default());
        let port = self.link.port();
        Ok(Account {
            member: self.name().into(),
            config: self.credentials.config(port, &token),
            kubeconfig: kubeconfig(&[self.credentials.context(self.name(), name, port, &token)]).into(),
        })
    }

    /// [`Member::account`] in `default` with a cluster role of these rules, bound in every namespace.
    ///
    /// # Errors
    /// [`Error::Api`], also when there is a cluster role or binding of that name already.
    pub async fn account_with(&self, name: &str, rules: Vec<PolicyRule>) -> Result<Account, Error> {
        let client = self.direct_client()?;
        let metadata = ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        let role = ClusterRole {
            metadata: metadata.clone(),
            rules: Some(rules),
            ..ClusterRole::default()
        };
        let binding = ClusterRoleBinding {
            metadata,
            role_ref: RoleRef {
                api_group: Some("rbac.authorization.k8s.io".into()),
                kind: "ClusterRole".into(),
                name: name.into(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".into(),
                name: name.into(),
                namespace: Some("default".into()),
                ..Subject::default()
            }]),
        };
        let failed = || Error::api::<kube::Error>(self.name(), format!("give rights to account {name}"));
        Api::all(client.clone())
            .create(&PostParams::default(), &role)
            .await
            .map_err(failed())?;
        Api::all(client)
            .create(&PostParams::default(), &binding)
            .await
            .map_err(failed())?;
        self.account("default", name).await
    }
}

/// What exists already is as good.
fn existing<K>(created: Result<K, kube::Error>) -> Result<(), kube::Error> {
    match created {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        other => other.map(|_| ()),
    }
}
