//! Keys, certificates and tokens of one member; they live as long as its folder.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use k8s_openapi::ByteString;
use kube::{Config, config::AuthInfo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use secrecy::{ExposeSecret, SecretString};

use super::Error;

/// Names and addresses under which parts and tests reach the API server.
const SERVER_NAMES: [&str; 7] = [
    "127.0.0.1",
    "10.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) folder: PathBuf,
    ca_pem: String,
    ca_der: Vec<u8>,
    admin: SecretString,
}

impl Credentials {
    pub(super) fn create(member: &str, folder: &Path) -> Result<Self, Error> {
        let broken = Error::certificate::<rcgen::Error>(member);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{member} CA"));
        let ca =
            CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(&broken)?).map_err(&broken)?;

        let server_key = KeyPair::generate().map_err(&broken)?;
        let mut params = CertificateParams::new(SERVER_NAMES.map(String::from)).map_err(&broken)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        let server = params.signed_by(&server_key, &ca).map_err(&broken)?;
        let accounts = KeyPair::generate().map_err(&broken)?;

        let admin = SecretString::from(random(24)?);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let ca_key = ca.key().serialize_pem();
        for (name, text) in [
            ("ca.crt", ca.pem()),
            ("ca.key", ca_key),
            ("server.crt", server.pem()),
            ("server.key", server_key.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
            ("accounts.key", accounts.serialize_pem()),
            (
                "tokens.csv",
                format!("{},admin,admin,system:masters\n", admin.expose_secret()),
            ),
        ] {
            let path = folder.join(name);
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(Self {
            folder: folder.into(),
            ca_pem: ca.pem(),
            ca_der: ca.der().to_vec(),
            admin,
        })
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub(super) fn admin(&self) -> &SecretString {
        &self.admin
    }

    /// For a client in this process.
    pub(super) fn config(&self, port: u16, token: &SecretString) -> Config {
        let uri = http::Uri::builder()
            .scheme("https")
            .authority(format!("127.0.0.1:{port}"))
            .path_and_query("/")
            .build()
            .unwrap_or_default();
        let mut config = Config::new(uri);
        config.root_cert = Some(vec![self.ca_der.clone()]);
        config.auth_info = AuthInfo {
            token: Some(token.clone()),
            ..AuthInfo::default()
        };
        config
    }

    /// For everybody else.
    pub(super) fn context(&self, member: &str, user: &str, port: u16, token: &SecretString) -> Context {
        Context {
            member: member.into(),
            user: user.into(),
            port,
            ca: self.ca_pem.clone(),
            token: token.clone(),
        }
    }
}

/// What one context of a kubeconfig is made of.
pub(super) struct Context {
    member: String,
    user: String,
    port: u16,
    ca: String,
    token: SecretString,
}

/// A kubeconfig with these contexts, the first of them current. All data is inline: it can be put into a Secret
/// as it is.
pub(super) fn kubeconfig(contexts: &[Context]) -> String {
    let (mut clusters, mut users, mut names) = (String::new(), String::new(), String::new());
    for Context {
        member,
        user,
        port,
        ca,
        token,
    } in contexts
    {
        let ca = serde_json::to_value(ByteString(ca.clone().into_bytes())).unwrap_or_default();
        let ca = ca.as_str().unwrap_or_default();
        let token = token.expose_secret();
        clusters += &format!(
            "- name: {member}\n  cluster:\n    server: https://127.0.0.1:{port}\n    \
             certificate-authority-data: {ca}\n"
        );
        users += &format!("- name: {member}-{user}\n  user:\n    token: {token}\n");
        names += &format!("- name: {member}\n  context:\n    cluster: {member}\n    user: {member}-{user}\n");
    }
    let current = contexts
        .first()
        .map(|context| context.member.as_str())
        .unwrap_or_default();
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n{clusters}users:\n{users}contexts:\n{names}\
         current-context: {current}\n"
    )
}

/// So many bytes of the system's randomness, in hex.
pub(super) fn random(bytes: u64) -> Result<String, Error> {
    let source = Path::new("/dev/urandom");
    let mut drawn = Vec::new();
    File::open(source)
        .and_then(|file| file.take(bytes).read_to_end(&mut drawn))
        .map_err(Error::io("read", source))?;
    Ok(drawn.iter().map(|byte| format!("{byte:02x}")).collect())
}
