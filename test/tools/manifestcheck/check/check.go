// Package check decodes manifests strictly, as the API server does for `kubectl --validate=strict`: a field that is unknown,
// misspelt, of another type or there twice is refused.
package check

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Main checks the stream of YAML documents on stdin and returns the exit code: 1 if one was refused, or if there is none.
// Of Kubernetes it knows the groups that the manifests use; add takes those of others.
func Main(add ...func(*runtime.Scheme) error) int {
	scheme := runtime.NewScheme()
	groups := append([]func(*runtime.Scheme) error{
		batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, rbacv1.AddToScheme,
	}, add...)
	for _, group := range groups {
		if err := group(scheme); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	accepted, faults := judge(os.Stdin, serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer())
	for _, fault := range faults {
		fmt.Fprintln(os.Stderr, fault)
	}
	fmt.Printf("%d accepted, %d refused\n", accepted, len(faults))
	if accepted == 0 || len(faults) > 0 {
		return 1
	}
	return 0
}

func judge(stream io.Reader, decoder runtime.Decoder) (accepted int, faults []error) {
	documents := yaml.NewYAMLReader(bufio.NewReader(stream))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return accepted, faults
		}
		if err != nil {
			return accepted, append(faults, err)
		}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		if _, kind, err := decoder.Decode(document, nil, nil); err != nil {
			faults = append(faults, fmt.Errorf("document %d (%v): %w", number, kind, err))
			continue
		}
		accepted++
	}
}
