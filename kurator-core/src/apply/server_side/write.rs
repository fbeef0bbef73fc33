use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::{
    Api, Resource,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    client::Body,
    core::{ApiResource, Request, Status},
};
use serde_json::{Value, json};

use super::{
    ApplyFailure, Desired, DesiredText, ObjectOutcome, Pass,
    fields::still_owned,
    text::{hash, with_hash},
};
use crate::apply::{
    ANNOTATION_OWNER_NAME, ConflictResolution, FieldConflict, LABEL_HUB, LABEL_OWNER, Owner, Refusal,
    differences, owner::label, retain, without,
};

/// Annotation of everything placed on a member: a hash of what was applied, to see without a write that nothing is
/// to be written.
pub const ANNOTATION_APPLIED_HASH: &str = "kurator.dev/applied-hash";

/// The largest body a kube-apiserver reads (`MaxRequestBodyBytes`): more is not sent at all.
const MAX_REQUEST: usize = 3 * 1024 * 1024;

type Written = (ObjectOutcome, Option<DynamicObject>);

impl Pass<'_> {
    pub(super) async fn write(&self, desired: &Desired) -> Written {
        match self.try_write(desired).await {
            Ok(written) => written,
            Err(failure) => (ObjectOutcome::Failed { failure }, None),
        }
    }

    async fn try_write(&self, desired: &Desired) -> Result<Written, ApplyFailure> {
        let served = self.observed.served(desired.kind())?;
        let api = served.api_of(&self.client, desired.key())?;
        let write = Write::new(self, desired, &served.resource, api)?;
        match self.observed.live.get(desired.key()) {
            Some(live) => write.ours(live).await,
            None if self.vacant.holds(desired.key()) => write.vacant().await,
            None => write.not_ours_yet().await,
        }
    }
}

/// One object on its way.
struct Write<'a> {
    pass: &'a Pass<'a>,
    desired: &'a Desired,
    resource: &'a ApiResource,
    api: Api<DynamicObject>,
    /// Fields that a controller on the member may own.
    member_owned: &'a [String],
    text: &'a DesiredText,
    hash: Cow<'a, str>,
}

/// What must hold of an object for it to be written.
#[derive(Clone, Copy, Default)]
struct Still<'a> {
    uid: Option<&'a str>,
    version: Option<&'a str>,
}

/// The answer to an apply.
enum Answer {
    Created(DynamicObject),
    Patched(DynamicObject),
    Refused(Box<Status>),
}

impl<'a> Write<'a> {
    fn new(
        pass: &'a Pass<'a>,
        desired: &'a Desired,
        resource: &'a ApiResource,
        api: Api<DynamicObject>,
    ) -> Result<Self, ApplyFailure> {
        let text = desired.text();
        if text.bytes > MAX_REQUEST {
            return Err(ApplyFailure::TooLarge { bytes: text.bytes });
        }
        let member_owned = pass.options.member_owned.get(desired.key());
        let member_owned = member_owned.map_or(&[][..], Vec::as_slice);
        let hash = if member_owned.is_empty() {
            Cow::Borrowed(text.hash.as_str())
        } else {
            // What is left to the member must not look like a change of what is wanted.
            let mut ours = desired.body().clone();
            without(&mut ours, member_owned);
            Cow::Owned(hash(&ours.to_string()))
        };
        Ok(Self {
            pass,
            desired,
            resource,
            api,
            member_owned,
            text,
            hash,
        })
    }

    /// What is to be sent, given what is there.
    fn body(&self, live: &DynamicObject) -> Value {
        let mut body = with_hash(self.desired.body().clone(), &self.hash);
        if !self.member_owned.is_empty()
            && let Ok(live) = serde_json::to_value(live)
        {
            retain(&mut body, Some(&live), self.member_owned, self.manager());
        }
        body
    }

    /// What is to be sent where nothing is.
    fn whole(&self) -> Vec<u8> {
        if self.member_owned.is_empty() {
            self.text.hashed.clone()
        } else {
            let body = with_hash(self.desired.body().clone(), &self.hash);
            body.to_string().into_bytes()
        }
    }

    /// What an object that is there must still be when it is written by force: the same, and, where something is left
    /// to the member, as it was when that was read. A controller there may have written it since.
    fn still<'l>(&self, live: &'l DynamicObject, force: bool) -> Still<'l> {
        Still {
            uid: live.metadata.uid.as_deref(),
            version: live
                .metadata
                .resource_version
                .as_deref()
                .filter(|_| force && !self.member_owned.is_empty()),
        }
    }

    fn manager(&self) -> &str {
        &self.pass.applier.field_manager
    }

    fn overwrites(&self) -> bool {
        self.pass.options.conflict_resolution == ConflictResolution::Overwrite
    }

    /// An object that carries the owner's labels.
    async fn ours(&self, live: &DynamicObject) -> Result<Written, ApplyFailure> {
        if live.metadata.deletion_timestamp.is_some() {
            return Err(ApplyFailure::BeingDeleted);
        }
        let body = self.body(live);
        if self.is_settled(live, &body) {
            return Ok((ObjectOutcome::Unchanged, Some(live.clone())));
        }
        let force = self.overwrites();
        let status = match self.apply(text(&body, self.still(live, force)), force).await? {
            Answer::Created(object) | Answer::Patched(object) => return Ok(self.patched(live, object)),
            Answer::Refused(status) => status,
        };
        let conflicts = field_conflicts(&status);
        if conflicts.is_empty() {
            return Err(self.failure(&status));
        }
        let applied: Vec<FieldConflict> = conflicts
            .into_iter()
            .filter(|it| !is_edit(&live.metadata, &it.manager))
            .collect();
        if !applied.is_empty() {
            return Ok((ObjectOutcome::Conflict { conflicts: applied }, Some(live.clone())));
        }
        match self.apply(text(&body, self.still(live, true)), true).await? {
            Answer::Created(object) | Answer::Patched(object) => Ok(self.patched(live, object)),
            Answer::Refused(status) => Err(self.failure(&status)),
        }
    }

    /// An object the owner's list did not hold: absent, or somebody else's.
    async fn not_ours_yet(&self) -> Result<Written, ApplyFailure> {
        let name = &self.desired.key().object.name;
        match self.api.get_opt(name).await {
            Ok(None) => self.create(self.overwrites()).await,
            // Placed since the list was read, or placed by us and somebody took the labels off.
            Ok(Some(live)) if self.owner().labelled(&live.metadata) || self.is_stripped(&live.metadata) => {
                self.ours(&live).await
            }
            Ok(Some(live)) => match self.refusal(&live.metadata) {
                Some(refusal) => Ok((ObjectOutcome::Refused { refusal }, Some(live))),
                None if live.metadata.deletion_timestamp.is_some() => Err(ApplyFailure::BeingDeleted),
                None => match self
                    .apply(text(&self.body(&live), self.still(&live, true)), true)
                    .await?
                {
                    Answer::Created(object) | Answer::Patched(object) if self.pass.options.dry_run => {
                        Ok(self.would_update(&live, &object))
                    }
                    Answer::Created(object) | Answer::Patched(object) => {
                        Ok((ObjectOutcome::Updated, Some(object)))
                    }
                    Answer::Refused(status) => Err(self.failure(&status)),
                },
            },
            Err(error) => Err(self.failure_of(&error)),
        }
    }

    /// An object that was not there when many were looked for together.
    async fn vacant(&self) -> Result<Written, ApplyFailure> {
        // Somebody may have taken the place since: what is theirs is not overwritten unseen.
        match self.create(false).await {
            Err(ApplyFailure::Changed) => self.not_ours_yet().await,
            written => written,
        }
    }

    async fn create(&self, force: bool) -> Result<Written, ApplyFailure> {
        let mut answer = self.apply(self.whole(), force).await?;
        if self.pass.options.dry_run {
            return self.would_create(answer, self.overwrites());
        }
        if let Answer::Refused(status) = &answer
            && matches!(self.failure(status), ApplyFailure::NamespaceMissing { .. })
            && self.pass.options.create_namespaces
        {
            self.create_namespace().await?;
            answer = self.apply(self.whole(), force).await?;
        }
        match answer {
            Answer::Created(object) => Ok((ObjectOutcome::Created, Some(object))),
            Answer::Patched(object) if self.overwrites() => Ok((ObjectOutcome::Updated, Some(object))),
            Answer::Patched(object) => self.step_back(object).await,
            Answer::Refused(status) => Err(self.failure(&status)),
        }
    }

    /// Whether the object could be created. In a namespace that is not there yet it cannot be tried.
    fn would_create(&self, answer: Answer, force: bool) -> Result<Written, ApplyFailure> {
        match answer {
            Answer::Created(_) => Ok((ObjectOutcome::WouldCreate, None)),
            Answer::Patched(object) if force => Ok((ObjectOutcome::WouldCreate, Some(object))),
            Answer::Patched(object) => {
                let manager = last_writer(&object.metadata, self.manager());
                let refusal = Refusal::OwnedByOther { manager };
                Ok((ObjectOutcome::Refused { refusal }, None))
            }
            Answer::Refused(status) => match self.failure(&status) {
                ApplyFailure::NamespaceMissing { .. } if self.pass.options.create_namespaces => {
                    Ok((ObjectOutcome::WouldCreate, None))
                }
                failure => Err(failure),
            },
        }
    }

    /// Between our look and our apply somebody created the object, and what we applied went into it. What we own
    /// of it is given up again: an apply of nothing removes it.
    async fn step_back(&self, object: DynamicObject) -> Result<Written, ApplyFailure> {
        let nothing = json!({
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": {"uid": object.metadata.uid},
        });
        let params = PatchParams::apply(self.manager());
        let name = &self.desired.key().object.name;
        let live = self.api.patch(name, &params, &Patch::Apply(&nothing)).await;
        let live = live.map_err(|error| self.failure_of(&error))?;
        let refusal = Refusal::OwnedByOther {
            manager: last_writer(&live.metadata, self.manager()),
        };
        Ok((ObjectOutcome::Refused { refusal }, Some(live)))
    }

    async fn create_namespace(&self) -> Result<(), ApplyFailure> {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.pass.client.clone());
        let namespace = k8s_openapi::api::core::v1::Namespace {
            metadata: ObjectMeta {
                name: Some(self.desired.key().object.namespace.clone()),
                annotations: Some(
                    [(ANNOTATION_OWNER_NAME.to_owned(), self.owner().name().to_owned())].into(),
                ),
                // By which it is found when nothing is in it any more; whoever wants to keep it takes this off.
                labels: Some([(LABEL_HUB.to_owned(), self.owner().hub().to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..Default::default()
        };
        let params = PostParams {
            field_manager: Some(self.manager().to_owned()),
            ..PostParams::default()
        };
        match namespaces.create(&params, &namespace).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(self.failure_of(&error)),
        }
    }

    /// Not `Api::patch`: the status code tells whether the object was created.
    async fn apply(&self, body: Vec<u8>, force: bool) -> Result<Answer, ApplyFailure> {
        let mut params = PatchParams::apply(self.manager());
        params.force = force;
        params.dry_run = self.pass.options.dry_run;
        // A field that the server does not know is an error of every apply. What stricter validation adds is a second
        // reading of the body, for keys that are there twice, which ours cannot have.
        params.field_validation = Some(kube::api::ValidationDirective::Ignore);
        let key = self.desired.key();
        let namespace = Some(key.object.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let request = Request::new(DynamicObject::url_path(self.resource, namespace))
            .patch(&key.object.name, &params, &Patch::Apply(()))
            .map_err(|error| self.failure_of(&kube::Error::BuildRequest(error)))?
            .map(|_| Body::from(body));
        let answer = async {
            let response = self.pass.client.send(request).await?;
            let status = response.status();
            let bytes = response.into_body().collect_bytes().await?;
            if status.is_success() {
                let object = serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?;
                return Ok(if status.as_u16() == 201 {
                    Answer::Created(object)
                } else {
                    Answer::Patched(object)
                });
            }
            let mut failure = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Status::failure(&String::from_utf8_lossy(&bytes), ""));
            failure.code = status.as_u16();
            Ok(Answer::Refused(failure.boxed()))
        };
        answer.await.map_err(|error: kube::Error| self.failure_of(&error))
    }

    fn would_update(&self, before: &DynamicObject, after: &DynamicObject) -> Written {
        let value = |object: &DynamicObject| serde_json::to_value(object).unwrap_or_default();
        let (fields, more) = differences(&value(before), &value(after), ANNOTATION_APPLIED_HASH);
        let outcome = if fields.is_empty() {
            ObjectOutcome::Unchanged
        } else {
            ObjectOutcome::WouldUpdate { fields, more }
        };
        (outcome, Some(before.clone()))
    }

    fn patched(&self, before: &DynamicObject, after: DynamicObject) -> Written {
        if self.pass.options.dry_run {
            return self.would_update(before, &after);
        }
        let unchanged = before.metadata.resource_version == after.metadata.resource_version;
        if unchanged && let Some(version) = after.metadata.resource_version.clone() {
            let key = (self.pass.cluster.clone(), self.desired.key().clone());
            self.pass
                .settled()
                .insert(key, (self.hash.clone().into_owned(), version));
        }
        let outcome = if unchanged {
            ObjectOutcome::Unchanged
        } else {
            ObjectOutcome::Updated
        };
        (outcome, Some(after))
    }

    /// Whether applying would change nothing, as far as can be known without trying.
    fn is_settled(&self, live: &DynamicObject, body: &Value) -> bool {
        let annotations = live.metadata.annotations.as_ref();
        let hash = annotations.and_then(|annotations| annotations.get(ANNOTATION_APPLIED_HASH));
        if hash.map(String::as_str) != Some(&*self.hash) {
            return false;
        }
        let api_version = &self.resource.api_version;
        if still_owned(&live.metadata, self.manager(), api_version, body) {
            return true;
        }
        let key = (self.pass.cluster.clone(), self.desired.key().clone());
        self.pass.settled().get(&key).is_some_and(|(hash, version)| {
            **hash == *self.hash && live.metadata.resource_version.as_ref() == Some(version)
        })
    }

    fn owner(&self) -> &Owner {
        self.pass.desired.owner()
    }

    /// Whether we placed the object for an owner of this name, and only its labels are missing.
    fn is_stripped(&self, metadata: &ObjectMeta) -> bool {
        let annotations = metadata.annotations.as_ref();
        let owner = annotations.and_then(|annotations| annotations.get(ANNOTATION_OWNER_NAME));
        let unlike = |key, ours: &str| label(metadata, key).is_some_and(|found| found != ours);
        !self.owner().name().is_empty()
            && owner.is_some_and(|owner| owner == self.owner().name())
            && !unlike(LABEL_HUB, self.owner().hub())
            && !unlike(LABEL_OWNER, self.owner().uid())
            && entries(metadata).any(|entry| {
                entry.manager.as_deref() == Some(self.manager())
                    && entry.operation.as_deref() == Some("Apply")
            })
    }

    /// Why an object without the owner's labels is left alone, if it is.
    fn refusal(&self, metadata: &ObjectMeta) -> Option<Refusal> {
        if let (Some(hub), Some(_)) = (label(metadata, LABEL_HUB), label(metadata, LABEL_OWNER)) {
            let annotations = metadata.annotations.as_ref();
            let owner = annotations
                .and_then(|it| it.get(ANNOTATION_OWNER_NAME))
                .cloned()
                .unwrap_or_default();
            // A policy that was deleted and made anew has another UID and the same name.
            let made_anew = !owner.is_empty() && owner == self.owner().name();
            return (!made_anew || self.pass.options.conflict_resolution == ConflictResolution::Abort).then(
                || Refusal::ClaimedByOther {
                    owner,
                    hub: hub.clone(),
                },
            );
        }
        (self.pass.options.conflict_resolution == ConflictResolution::Abort).then(|| Refusal::OwnedByOther {
            manager: last_writer(metadata, ""),
        })
    }

    fn failure(&self, status: &Status) -> ApplyFailure {
        self.with_kind(ApplyFailure::of_status(
            self.desired.key(),
            status,
            self.text.bytes,
        ))
    }

    fn failure_of(&self, error: &kube::Error) -> ApplyFailure {
        self.with_kind(ApplyFailure::of_error(self.desired.key(), error, self.text.bytes))
    }

    fn with_kind(&self, failure: ApplyFailure) -> ApplyFailure {
        match failure {
            ApplyFailure::KindMissing { kind, .. } => ApplyFailure::KindMissing {
                api_version: self.resource.api_version.clone(),
                kind,
            },
            other => other,
        }
    }
}

/// The fields that kept an apply from happening. The message of each cause is `conflict with "name"`, with more
/// after it for updates (apimachinery, `managedfields/internal/conflict.go`).
fn field_conflicts(status: &Status) -> Vec<FieldConflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut conflicts: Vec<_> = causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| {
            FieldConflict::new(
                cause.message.split('"').nth(1).unwrap_or("unknown"),
                &*cause.field,
            )
        })
        .collect();
    conflicts.sort();
    conflicts.dedup();
    conflicts
}

/// Whether all that this manager holds of the object comes from updates, not from applies.
fn is_edit(metadata: &ObjectMeta, manager: &str) -> bool {
    let mut entries = entries(metadata)
        .filter(|entry| entry.manager.as_deref() == Some(manager))
        .peekable();
    entries.peek().is_some() && entries.all(|entry| entry.operation.as_deref() == Some("Update"))
}

/// Who wrote the object itself last, our own name aside.
fn last_writer(metadata: &ObjectMeta, but: &str) -> String {
    entries(metadata)
        .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
        .filter(|entry| entry.manager.as_deref() != Some(but))
        .max_by(|a, b| {
            a.time
                .as_ref()
                .map(|time| time.0)
                .cmp(&b.time.as_ref().map(|time| time.0))
        })
        .and_then(|entry| entry.manager.clone())
        .unwrap_or_else(|| "unknown".to_owned())
}

fn entries(metadata: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    metadata.managed_fields.iter().flatten()
}

/// A body with what must hold of the object that is there: it may have been replaced by another of the same name, and
/// then this is a conflict.
fn text(body: &Value, still: Still<'_>) -> Vec<u8> {
    let mut body = body.clone();
    if let Some(uid) = still.uid {
        body["metadata"]["uid"] = uid.into();
    }
    if let Some(version) = still.version {
        body["metadata"]["resourceVersion"] = version.into();
    }
    body.to_string().into_bytes()
}
