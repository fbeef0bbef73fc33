use std::{fs, io, path::Path, sync::Arc};

use super::{
    Error, FleetBuilder, Member, MemberSpec, ObjectStore, builder, credentials::kubeconfig,
    supervisor::Supervisor,
};

/// Running members. Dropping it kills every process of theirs and removes their folder; so does the end of the
/// test process, whatever ends it.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    supervisor: Arc<Supervisor>,
    store: Option<ObjectStore>,
    builder: FleetBuilder,
}

impl Fleet {
    pub(super) fn new(
        members: Vec<Member>,
        supervisor: Arc<Supervisor>,
        store: Option<ObjectStore>,
        builder: FleetBuilder,
    ) -> Self {
        Self {
            members,
            supervisor,
            store,
            builder,
        }
    }

    /// A fleet to describe and start.
    pub fn builder() -> FleetBuilder {
        FleetBuilder::new()
    }

    /// The members, in the order in which they were described or added.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member by its name.
    ///
    /// # Errors
    /// [`Error::UnknownMember`].
    pub fn member(&self, name: &str) -> Result<&Member, Error> {
        self.position(name)
            .and_then(|index| self.members.get(index))
            .ok_or_else(|| unknown(name))
    }

    /// Starts one more member.
    ///
    /// # Errors
    /// As [`FleetBuilder::start`]; the other members go on.
    pub async fn add(&mut self, spec: MemberSpec) -> Result<&Member, Error> {
        let name = spec.name().to_owned();
        builder::check(&self.members, std::slice::from_ref(&spec))?;
        let started = self
            .builder
            .start_members(&self.supervisor, &mut self.store, vec![spec])
            .await?;
        self.members.extend(started);
        self.member(&name)
    }

    /// Ends a member for good: its processes, its data and its ports are gone when this returns.
    ///
    /// # Errors
    /// [`Error::UnknownMember`], [`Error::Process`], and [`Error::Io`] when its folder cannot be removed.
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        let index = self.position(name).ok_or_else(|| unknown(name))?;
        let member = self.members.remove(index);
        member.kill_all()?;
        match fs::remove_dir_all(&member.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &member.folder)(error))
            }
            _ => Ok(()),
        }
    }

    /// Where the Velero servers of the members keep their backups.
    ///
    /// # Errors
    /// [`Error::NoObjectStore`] when no member ever had Velero.
    pub fn object_store(&self) -> Result<&ObjectStore, Error> {
        self.store.as_ref().ok_or(Error::NoObjectStore)
    }

    /// A kubeconfig with all rights and a context for each member, under its name.
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&self.members.iter().map(Member::context).collect::<Vec<_>>())
    }

    /// Folder with the data and logs of all members; gone with the fleet.
    pub fn folder(&self) -> &Path {
        self.supervisor.folder()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name() == name)
    }
}

fn unknown(name: &str) -> Error {
    Error::UnknownMember { member: name.into() }
}
