// The Velero server as it ships, but for one thing: controller-runtime opens a metrics listener of its own on
// port 8080, which no flag changes, so that a second server on the machine would die at its start.
package main

import (
	"fmt"
	"os"

	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/vmware-tanzu/velero/pkg/buildinfo"
	"github.com/vmware-tanzu/velero/pkg/cmd"
	"github.com/vmware-tanzu/velero/pkg/cmd/velero"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("velero", buildinfo.Version)
		return
	}
	metricsserver.DefaultBindAddress = "0"
	cmd.CheckError(velero.NewCommand("velero").Execute())
}
