use super::{Binary, Files, Module};

/// Without these the programs call themselves v0.0.0, and clients that look at the version go wrong.
const LDFLAGS: &str = "-X k8s.io/component-base/version.gitVersion=v1.37.2 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";

pub(super) const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        version: "v1.37.2",
        go_mod: include_str!("../../../components/kubernetes/go.mod"),
        go_sum: include_str!("../../../components/kubernetes/go.sum"),
        sources: &[],
        binaries: &[
            Binary {
                name: "etcd",
                package: "go.etcd.io/etcd/server/v3",
                version: "v3.7.3",
                flags: &[],
                ldflags: "",
                seconds: 60,
            },
            Binary {
                name: "kube-apiserver",
                package: "k8s.io/kubernetes/cmd/kube-apiserver",
                version: "v1.37.2",
                flags: &[],
                ldflags: LDFLAGS,
                seconds: 300,
            },
            Binary {
                name: "kube-controller-manager",
                package: "k8s.io/kubernetes/cmd/kube-controller-manager",
                version: "v1.37.2",
                flags: &[],
                ldflags: LDFLAGS,
                seconds: 100,
            },
            Binary {
                name: "kube-scheduler",
                package: "k8s.io/kubernetes/cmd/kube-scheduler",
                version: "v1.37.2",
                flags: &[],
                ldflags: LDFLAGS,
                seconds: 10,
            },
        ],
        files: &[],
    },
    Module {
        name: "kwok",
        version: "v0.8.0",
        go_mod: include_str!("../../../components/kwok/go.mod"),
        go_sum: include_str!("../../../components/kwok/go.sum"),
        sources: &[],
        binaries: &[Binary {
            name: "kwok",
            package: "sigs.k8s.io/kwok/cmd/kwok",
            version: "v0.8.0",
            flags: &[],
            ldflags: "",
            seconds: 120,
        }],
        files: &[Files {
            name: "kwok-stages",
            module: "sigs.k8s.io/kwok",
            from: "kustomize/stage",
            suffix: ".yaml",
        }],
    },
];
