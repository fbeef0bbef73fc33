use std::fmt;

use async_trait::async_trait;
use kube::{Api, Resource, ResourceExt, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use crate::{
    api::{BackupExecution, BackupExecutionStatus, RestoreExecution, RestoreExecutionStatus},
    execute::{RestoreStore, StatusStore, StoreError},
};

/// The status of one object on the hub. Every write carries the resource version of the read or write before it.
#[derive(Debug)]
pub(super) struct HubStatus<K> {
    api: Api<K>,
    object: Mutex<K>,
}

impl<K> HubStatus<K>
where
    K: Clone + fmt::Debug + DeserializeOwned + Resource + Serialize + Send + Sync,
{
    pub(super) fn new(api: Api<K>, object: K) -> Self {
        Self {
            api,
            object: Mutex::new(object),
        }
    }

    async fn replace(&self, change: impl FnOnce(&mut K) + Send) -> Result<(), StoreError> {
        let mut object = self.object.lock().await;
        let mut next = object.clone();
        change(&mut next);
        let params = PostParams {
            field_manager: Some(kurator_core::apply::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.api.replace_status(&next.name_any(), &params, &next).await {
            Ok(written) => {
                *object = written;
                Ok(())
            }
            Err(kube::Error::Api(answer)) if answer.code == 409 => Err(StoreError::Conflict),
            Err(kube::Error::Api(answer)) if answer.code == 404 => Err(StoreError::Gone),
            Err(source) => Err(StoreError::Unavailable {
                source: Box::new(source),
            }),
        }
    }
}

#[async_trait]
impl StatusStore for HubStatus<BackupExecution> {
    async fn save(&self, status: &BackupExecutionStatus) -> Result<(), StoreError> {
        self.replace(|object| object.status = Some(status.clone())).await
    }
}

#[async_trait]
impl RestoreStore for HubStatus<RestoreExecution> {
    async fn save(&self, status: &RestoreExecutionStatus) -> Result<(), StoreError> {
        self.replace(|object| object.status = Some(status.clone())).await
    }
}
