use std::collections::BTreeSet;

use kurator_core::names::ClusterName;

use crate::driver::{
    BackupDriver, BackupName, BackupObservation, BackupRequest, Created, DeletionName, DeletionRequest,
    DriverError, LocationState, OwnerToken, ResourceKind, RestoreName, RestoreRequest,
};

/// How often the suite lets the server take a step before it gives up.
const STEPS: usize = 600;

/// Where a driver is tried: nothing in it is read or written but what the suite makes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DriverGround<'a> {
    driver: &'a dyn BackupDriver,
    cluster: &'a ClusterName,
    unreachable: Option<&'a ClusterName>,
    token: &'a str,
}

impl<'a> DriverGround<'a> {
    /// `cluster` is a member with a server, an available default location, and at least one object that a backup takes.
    /// Names are made of `token`, so that another run of the suite takes another one.
    #[must_use]
    pub fn new(driver: &'a dyn BackupDriver, cluster: &'a ClusterName, token: &'a str) -> Self {
        Self {
            driver,
            cluster,
            unreachable: None,
            token,
        }
    }

    /// A member that does not answer.
    #[must_use]
    pub fn with_unreachable(mut self, cluster: &'a ClusterName) -> Self {
        self.unreachable = Some(cluster);
        self
    }
}

/// A law that a driver breaks.
#[derive(Debug, thiserror::Error)]
#[error("{law}: {found}")]
#[non_exhaustive]
pub struct Violation {
    /// The law, as a sentence.
    pub law: &'static str,
    /// What was found instead.
    pub found: String,
    /// The driver's error, where it gave one.
    #[source]
    pub source: Option<DriverError>,
}

/// What a law comes to.
type Held = Result<(), Violation>;

struct Law(&'static str);

impl Law {
    fn broken<T>(&self, found: impl Into<String>) -> Result<T, Violation> {
        Err(Violation {
            law: self.0,
            found: found.into(),
            source: None,
        })
    }

    fn hold(&self, holds: bool, found: impl FnOnce() -> String) -> Held {
        if holds { Ok(()) } else { self.broken(found()) }
    }

    fn ok<T>(&self, answer: Result<T, DriverError>) -> Result<T, Violation> {
        answer.map_err(|source| Violation {
            law: self.0,
            found: "an error".to_owned(),
            source: Some(source),
        })
    }
}

/// Tries a driver; returns the laws that hold. `step` lets the server get on: it waits, or moves a clock.
///
/// # Errors
/// The first [`Violation`].
pub async fn check_driver(
    ground: &DriverGround<'_>,
    mut step: impl AsyncFnMut(),
) -> Result<Vec<&'static str>, Violation> {
    let mut held = Vec::new();
    let name = BackupName::bounded([ground.token, "backup"]);
    let request = BackupRequest::new(name.clone(), OwnerToken::bounded([ground.token, "owner"]));
    let mut record = |law: Law| held.push(law.0);

    record(facts(ground).await?);
    record(nothing_there(ground).await?);
    record(created_once(ground, &request).await?);
    let (law, ended) = comes_to_an_end(ground, &request, &mut step).await?;
    record(law);
    record(poked(ground, &ended).await?);
    record(listed(ground, &name).await?);
    record(restored(ground, &name, &mut step).await?);
    record(deleted(ground, &name, &mut step).await?);
    if let Some(away) = ground.unreachable {
        record(unreachable(ground, away).await?);
    }
    Ok(held)
}

async fn facts(ground: &DriverGround<'_>) -> Result<Law, Violation> {
    let law = Law("the facts have an available default location");
    let facts = law.ok(ground.driver.facts(ground.cluster).await)?;
    let found = facts.location(None);
    law.hold(
        found.is_some_and(|(_, location)| location.state == LocationState::Available),
        || format!("{found:?}"),
    )?;
    Ok(law)
}

async fn nothing_there(ground: &DriverGround<'_>) -> Result<Law, Violation> {
    let law = Law("what does not exist is None where it is looked for and NotFound where it is needed");
    let (driver, cluster) = (ground.driver, ground.cluster);
    let name = BackupName::bounded([ground.token, "no such backup"]);
    let found = law.ok(driver.backup(cluster, &name).await)?;
    law.hold(found.is_none(), || format!("{found:?}"))?;
    let restore = RestoreName::bounded([ground.token, "no such restore"]);
    let found = law.ok(driver.restore(cluster, &restore).await)?;
    law.hold(found.is_none(), || format!("{found:?}"))?;
    for answer in [
        driver.poke(cluster, &name, "1").await.err(),
        driver.contents(cluster, &name).await.err(),
    ] {
        law.hold(matches!(answer, Some(DriverError::NotFound { .. })), || {
            format!("{answer:?}")
        })?;
    }
    let deletion = law.ok(driver.deletion(cluster, &name).await)?;
    law.hold(deletion.is_gone(), || format!("{deletion:?}"))?;
    Ok(law)
}

async fn created_once(ground: &DriverGround<'_>, request: &BackupRequest) -> Result<Law, Violation> {
    let law = Law("a backup is created once, adopted by its owner, and refused to anybody else");
    let (driver, cluster) = (ground.driver, ground.cluster);
    let first = law.ok(driver.create_backup(cluster, request).await)?;
    law.hold(first == Created::New, || format!("{first:?} at first"))?;
    let seen = law.ok(driver.backup(cluster, &request.name).await)?;
    let Some(seen) = seen else {
        return law.broken("it is not there after it was created");
    };
    law.hold(seen.owner.as_ref() == Some(&request.owner), || {
        format!("owner {:?}", seen.owner)
    })?;
    let again = law.ok(driver.create_backup(cluster, request).await)?;
    law.hold(again == Created::Adopted, || {
        format!("{again:?} when asked again")
    })?;
    let mut other = request.clone();
    other.owner = OwnerToken::bounded([ground.token, "somebody else"]);
    let answer = driver.create_backup(cluster, &other).await;
    law.hold(matches!(answer, Err(DriverError::NameTaken { .. })), || {
        format!("{answer:?} for another owner")
    })?;
    let after = law.ok(driver.backup(cluster, &request.name).await)?;
    let same = after.is_some_and(|after| after.uid == seen.uid && after.owner == seen.owner);
    law.hold(same, || "another object after the refusal".to_owned())?;
    Ok(law)
}

async fn comes_to_an_end(
    ground: &DriverGround<'_>,
    request: &BackupRequest,
    step: &mut impl AsyncFnMut(),
) -> Result<(Law, BackupObservation), Violation> {
    let law = Law("a backup ends restorable and says when it began and ended");
    for _ in 0..STEPS {
        let seen = law.ok(ground.driver.backup(ground.cluster, &request.name).await)?;
        match seen {
            Some(seen) if seen.phase.has_ended() => {
                let whole =
                    seen.phase.is_restorable() && seen.started_at.is_some() && seen.completed_at.is_some();
                law.hold(whole, || format!("{seen:?}"))?;
                return Ok((law, seen));
            }
            Some(_) => step().await,
            None => return law.broken("it is gone before its end"),
        }
    }
    law.broken("it does not end")
}

async fn poked(ground: &DriverGround<'_>, ended: &BackupObservation) -> Result<Law, Violation> {
    let law = Law("a poke shows, and changes nothing else");
    let (driver, cluster) = (ground.driver, ground.cluster);
    for _ in 0..2 {
        law.ok(driver.poke(cluster, &ended.name, "1-1").await)?;
    }
    let seen = law.ok(driver.backup(cluster, &ended.name).await)?;
    let Some(seen) = seen else {
        return law.broken("it is gone after it was poked");
    };
    law.hold(seen.poked.as_deref() == Some("1-1"), || {
        format!("{:?}", seen.poked)
    })?;
    law.hold(seen.phase == ended.phase && seen.uid == ended.uid, || {
        format!("{seen:?}")
    })?;
    Ok(law)
}

async fn listed(ground: &DriverGround<'_>, name: &BackupName) -> Result<Law, Violation> {
    let law =
        Law("backups come sorted, and what is in one is of kinds that are there, its volume claims among it");
    let (driver, cluster) = (ground.driver, ground.cluster);
    let all = law.ok(driver.backups(cluster).await)?;
    law.hold(all.is_sorted_by(|a, b| a.name < b.name), || {
        "not sorted, or one twice".to_owned()
    })?;
    law.hold(all.iter().any(|it| it.name == *name), || {
        "it is not in the list".to_owned()
    })?;
    let contents = law.ok(driver.contents(cluster, name).await)?;
    law.hold(contents.values().any(|objects| !objects.is_empty()), || {
        "nothing is in it".to_owned()
    })?;
    let kinds: BTreeSet<_> = contents.keys().cloned().collect();
    let served = law.ok(driver.capabilities(cluster).await)?;
    let missing: Vec<_> = kinds.difference(&served.kinds).collect();
    law.hold(missing.is_empty(), || format!("not served: {missing:?}"))?;
    if let Some(claims) = law.ok(driver.claims(cluster, name).await)? {
        let listed = contents.get(&ResourceKind::new("v1", "PersistentVolumeClaim"));
        let same = claims.keys().eq(listed.into_iter().flatten());
        law.hold(same, || format!("claims {claims:?}, in the list {listed:?}"))?;
    }
    let present = law.ok(driver.inventory(cluster, &kinds).await)?;
    law.hold(present.keys().all(|kind| kinds.contains(kind)), || {
        "kinds nobody asked for".to_owned()
    })?;
    Ok(law)
}

async fn restored(
    ground: &DriverGround<'_>,
    backup: &BackupName,
    step: &mut impl AsyncFnMut(),
) -> Result<Law, Violation> {
    let law = Law("a restore is created once and ends");
    let (driver, cluster) = (ground.driver, ground.cluster);
    let name = RestoreName::bounded([ground.token, "restore"]);
    let request = RestoreRequest::new(
        name.clone(),
        OwnerToken::bounded([ground.token, "restore"]),
        backup.clone(),
    );
    let first = law.ok(driver.create_restore(cluster, &request).await)?;
    let again = law.ok(driver.create_restore(cluster, &request).await)?;
    law.hold((first, again) == (Created::New, Created::Adopted), || {
        format!("{first:?}, then {again:?}")
    })?;
    for _ in 0..STEPS {
        match law.ok(driver.restore(cluster, &name).await)? {
            Some(seen) if seen.phase.has_ended() => {
                law.hold(seen.phase.is_restorable(), || format!("{seen:?}"))?;
                return Ok(law);
            }
            Some(_) => step().await,
            None => return law.broken("it is gone before its end"),
        }
    }
    law.broken("it does not end")
}

async fn deleted(
    ground: &DriverGround<'_>,
    backup: &BackupName,
    step: &mut impl AsyncFnMut(),
) -> Result<Law, Violation> {
    let law = Law("a deletion is requested once, and the backup goes and stays away");
    let (driver, cluster) = (ground.driver, ground.cluster);
    let request = |number: &str| {
        let name = DeletionName::bounded([ground.token, "delete", number]);
        DeletionRequest::new(
            name,
            OwnerToken::bounded([ground.token, "delete"]),
            backup.clone(),
        )
    };
    let first = law.ok(driver.request_deletion(cluster, &request("1")).await)?;
    law.hold(first == Created::New, || format!("{first:?} at first"))?;
    let mut gone = false;
    for _ in 0..STEPS {
        let deletion = law.ok(driver.deletion(cluster, backup).await)?;
        if deletion.is_gone() {
            gone = true;
            break;
        }
        step().await;
    }
    law.hold(gone, || "it does not go".to_owned())?;
    let seen = law.ok(driver.backup(cluster, backup).await)?;
    law.hold(seen.is_none(), || format!("{seen:?}"))?;
    // Gone already is no error.
    law.ok(driver.request_deletion(cluster, &request("2")).await)?;
    for _ in 0..3 {
        step().await;
    }
    let seen = law.ok(driver.backup(cluster, backup).await)?;
    law.hold(seen.is_none(), || format!("it came back: {seen:?}"))?;
    Ok(law)
}

async fn unreachable(ground: &DriverGround<'_>, away: &ClusterName) -> Result<Law, Violation> {
    let law = Law("a member that does not answer is Unreachable, whatever is asked");
    let driver = ground.driver;
    let name = BackupName::bounded([ground.token, "away"]);
    let request = BackupRequest::new(name.clone(), OwnerToken::bounded([ground.token]));
    let answers = [
        driver.facts(away).await.err(),
        driver.capabilities(away).await.err(),
        driver.backup(away, &name).await.err(),
        driver.backups(away).await.err(),
        driver.create_backup(away, &request).await.err(),
        driver.deletion(away, &name).await.err(),
    ];
    for answer in answers {
        let transient = answer.as_ref().is_some_and(DriverError::is_transient);
        law.hold(transient, || format!("{answer:?}"))?;
    }
    Ok(law)
}
