// Checks manifests against the API types of the newest Kubernetes and of the Prometheus operator. A module of its own, because
// the operator's types demand newer ones of Kubernetes than the oldest.
package main

import (
	"os"

	"etcd-snapshot/tools/manifestcheck/check"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

func main() {
	os.Exit(check.Main(monitoringv1.AddToScheme))
}
