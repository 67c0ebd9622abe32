// Checks manifests against the API types of one version of Kubernetes: go.mod names the oldest, kubernetes-*.mod others.
package main

import (
	"os"

	"etcd-snapshot/tools/manifestcheck/check"
)

func main() {
	os.Exit(check.Main())
}
