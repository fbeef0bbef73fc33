//! Holds a fleet up to look around in, until Ctrl-C.
//!
//! `cargo run -p kurator-envtest --example hold -- 3` starts three full members and prints how to reach them.
#![allow(missing_docs)]

use std::{env, error::Error, fs, thread};

use kurator_envtest::{Controllers, Fleet, MemberSpec, Nodes};

fn main() -> Result<(), Box<dyn Error>> {
    let count = env::args().nth(1).map_or(Ok(2), |count| count.parse::<u32>())?;
    let fleet = (1..=count).fold(Fleet::builder(), |fleet, number| {
        fleet.member(
            MemberSpec::new(format!("member-{number}"))
                .with_controllers(Controllers::Stock)
                .with_scheduler()
                .with_nodes(Nodes::new(3).with_zones(["a", "b", "c"])),
        )
    });
    let fleet = fleet.start_blocking()?;
    let kubeconfig = fleet.folder().join("kubeconfig");
    fs::write(&kubeconfig, fleet.kubeconfig())?;
    println!("export KUBECONFIG={}", kubeconfig.display());
    println!("kubectl config get-contexts; kubectl --context member-1 get nodes");
    println!("Ctrl-C ends it and leaves nothing behind.");
    loop {
        thread::park();
    }
}
