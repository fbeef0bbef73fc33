use super::{Binary, Files, Module};

/// Without it the server says its version is empty, and so do the backups it makes.
const VELERO_LDFLAGS: &str = "-X github.com/vmware-tanzu/velero/pkg/buildinfo.Version=v1.18.3";

/// A module each: their dependencies exclude one another.
pub(super) const MODULES: &[Module] = &[
    Module {
        name: "velero",
        version: "v1.18.3",
        go_mod: include_str!("../../../components/velero/go.mod"),
        go_sum: include_str!("../../../components/velero/go.sum"),
        sources: &[("main.go", include_str!("../../../components/velero/main.go"))],
        binaries: &[Binary {
            name: "velero",
            package: ".",
            version: "v1.18.3",
            flags: &[],
            ldflags: VELERO_LDFLAGS,
            seconds: 300,
        }],
        files: &[Files {
            name: "velero-crds",
            module: "github.com/vmware-tanzu/velero",
            from: "config/crd",
            suffix: ".yaml",
        }],
    },
    Module {
        name: "velero-plugin-for-aws",
        version: "v1.14.3",
        go_mod: include_str!("../../../components/velero-plugin-for-aws/go.mod"),
        go_sum: include_str!("../../../components/velero-plugin-for-aws/go.sum"),
        sources: &[],
        // Velero takes every file of the plug-in folder for a plug-in: it must stay the only one here.
        binaries: &[Binary {
            name: "velero-plugin-for-aws",
            package: "github.com/vmware-tanzu/velero-plugin-for-aws/velero-plugin-for-aws",
            version: "v1.14.3",
            flags: &[],
            ldflags: "",
            seconds: 180,
        }],
        files: &[],
    },
    Module {
        name: "versitygw",
        version: "v1.8.0",
        go_mod: include_str!("../../../components/versitygw/go.mod"),
        go_sum: include_str!("../../../components/versitygw/go.sum"),
        sources: &[],
        binaries: &[Binary {
            name: "versitygw",
            package: "github.com/versity/versitygw/cmd/versitygw",
            version: "v1.8.0",
            flags: &[],
            ldflags: "-X main.Version=v1.8.0",
            seconds: 70,
        }],
        files: &[],
    },
];
