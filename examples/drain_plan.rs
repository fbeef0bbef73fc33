//! Which nodes can go, in which order, and why the others cannot: a dry run that never writes.
//!
//! ```console
//! kubectl get nodes,pods,pdb,deploy,rs,sts,rc,pvc,pv,csinodes,ns -A -o json > cluster.json
//! cargo run --release --example drain_plan -- --remove 3 cluster.json
//! cargo run --release --example drain_plan -- --nodes node-a,node-b --json cluster.json
//! cargo run --release --example drain_plan -- --remove 1 --candidates node-a,node-b cluster.json
//! cargo run --release --example drain_plan -- --remove 3 --kubeconfig ~/.kube/config
//! ```

use std::{error::Error, fmt::Debug, fs, process::ExitCode};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController},
        policy::v1::PodDisruptionBudget,
        storage::v1::CSINode,
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use kurator_core::clock::{Clock, SystemClock};
use kurator_fleet::scaling::{DrainPolicy, Model, Object, ScaleDown, check};
use serde::de::DeserializeOwned;

const USAGE: &str = "\
usage: drain_plan (--remove N | --nodes A,B) [options] (FILE.json | --kubeconfig FILE)

  --remove N               remove N nodes, the planner chooses which
  --nodes A,B              remove exactly these nodes
  --candidates A,B,C       choose only among these nodes
  --kubeconfig FILE        read a live cluster (its current context) instead of a file; nothing is written
  --max-parallel N         nodes drained at once (10)
  --delete-emptydir-data   accept that data in emptyDir and hostPath is lost
  --force                  accept that pods without a controller are lost
  --surge                  run one replica more of single-replica Deployments whose budget allows nothing
  --now RFC3339            plan as of this time (the clock)
  --json                   print the plan for programs";

/// Up to this many objects, a plan is checked before it is printed.
const CHECKED: usize = 20_000;

#[derive(Debug, Default)]
struct Options {
    remove: Option<i64>,
    nodes: Option<Vec<String>>,
    candidates: Option<Vec<String>>,
    kubeconfig: Option<String>,
    file: Option<String>,
    now: Option<Timestamp>,
    json: bool,
    policy: DrainPolicy,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (arg, None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| args.next())
                .ok_or_else(|| format!("{name} needs a value\n{USAGE}"))
        };
        let list = |text: String| {
            text.split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        match name.as_str() {
            "--remove" => {
                let text = value()?;
                let count = text
                    .parse()
                    .map_err(|_| format!("--remove {text}: a whole number is needed"))?;
                options.remove = Some(count);
            }
            "--nodes" => options.nodes = Some(list(value()?)),
            "--candidates" => options.candidates = Some(list(value()?)),
            "--kubeconfig" => options.kubeconfig = Some(value()?),
            "--max-parallel" => {
                let text = value()?;
                let limit = text.parse().ok().filter(|limit| *limit > 0);
                options.policy.max_parallel =
                    limit.ok_or_else(|| format!("--max-parallel {text}: 1 or more is needed"))?;
            }
            "--delete-emptydir-data" => options.policy.evict_local_storage = true,
            "--force" => options.policy.evict_unreplicated = true,
            "--surge" => options.policy.surge = true,
            "--now" => {
                let text = value()?;
                options.now = Some(
                    text.parse()
                        .map_err(|_| format!("--now {text}: a time as 2026-01-31T12:00:00Z is needed"))?,
                );
            }
            "--json" => options.json = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            other if other.starts_with('-') => return Err(format!("unknown option {other}\n{USAGE}").into()),
            file if options.file.is_none() => options.file = Some(file.to_owned()),
            file => return Err(format!("one file is enough, {file} is the second\n{USAGE}").into()),
        }
    }
    Ok(options)
}

fn request(options: &Options) -> Result<ScaleDown, Box<dyn Error>> {
    let request = match (options.remove, &options.nodes) {
        (Some(count), None) => ScaleDown::remove(count),
        (None, Some(nodes)) => ScaleDown::nodes(nodes.clone()),
        _ => return Err(format!("either --remove or --nodes is needed\n{USAGE}").into()),
    };
    Ok(match &options.candidates {
        Some(candidates) => request.among(candidates.clone()),
        None => request,
    })
}

async fn list<K>(
    client: &Client,
    wrap: fn(Box<K>) -> Object,
    objects: &mut Vec<Object>,
) -> Result<(), Box<dyn Error>>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut page = ListParams::default().limit(500);
    loop {
        let listed = Api::<K>::all(client.clone()).list(&page).await?;
        objects.extend(listed.items.into_iter().map(|object| wrap(Box::new(object))));
        match listed.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(()),
        }
    }
}

async fn live(kubeconfig: &str) -> Result<Vec<Object>, Box<dyn Error>> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let mut objects = Vec::new();
    list::<Node>(&client, Object::Node, &mut objects).await?;
    list::<Pod>(&client, Object::Pod, &mut objects).await?;
    list::<PodDisruptionBudget>(&client, Object::PodDisruptionBudget, &mut objects).await?;
    list::<Deployment>(&client, Object::Deployment, &mut objects).await?;
    list::<ReplicaSet>(&client, Object::ReplicaSet, &mut objects).await?;
    list::<StatefulSet>(&client, Object::StatefulSet, &mut objects).await?;
    list::<ReplicationController>(&client, Object::ReplicationController, &mut objects).await?;
    list::<PersistentVolumeClaim>(&client, Object::PersistentVolumeClaim, &mut objects).await?;
    list::<PersistentVolume>(&client, Object::PersistentVolume, &mut objects).await?;
    list::<CSINode>(&client, Object::CsiNode, &mut objects).await?;
    list::<Namespace>(&client, Object::Namespace, &mut objects).await?;
    Ok(objects)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let options = options(std::env::args().skip(1))?;
    let request = request(&options)?;
    let (objects, model) = match (&options.file, &options.kubeconfig) {
        (Some(file), None) => {
            let json = fs::read(file).map_err(|error| format!("cannot read {file}: {error}"))?;
            let objects = Object::from_json(&json)?;
            let model = Model::from_objects(&objects)?;
            (objects, model)
        }
        (None, Some(kubeconfig)) => {
            let objects = live(kubeconfig).await?;
            let mut model = Model::new();
            // Between two lists a node may have gone, so pods without one are no error here.
            objects.iter().try_for_each(|object| model.upsert(object))?;
            (objects, model)
        }
        _ => return Err(format!("either a file or --kubeconfig is needed\n{USAGE}").into()),
    };
    let now = options.now.unwrap_or_else(|| SystemClock::new().now());
    let plan = model.plan_scale_down(&request, &options.policy, now)?;
    // The checker looks at everything again and again; it is for clusters that fit on a screen or ten.
    if objects.len() <= CHECKED {
        let notes = check::check(&plan, &objects, now);
        if !notes.permits() {
            return Err(format!(
                "the plan does not hold:
{notes}"
            )
            .into());
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&plan.summary())?);
    } else {
        print!("{plan}");
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
