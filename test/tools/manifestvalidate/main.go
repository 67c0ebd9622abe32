// Judges the CronJobs and Jobs of manifests on stdin by their values, as the API server does after it has put in its defaults:
// with the code of Kubernetes itself. Whether their fields exist is what manifestcheck says. Exit code 1 if one was refused, or if
// there is none.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchv1 "k8s.io/kubernetes/pkg/apis/batch/v1"
	"k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

func main() {
	accepted, refused, err := judge(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Printf("%d accepted, %d refused\n", accepted, refused)
	if err != nil || refused > 0 || accepted == 0 {
		os.Exit(1)
	}
}

func judge(stream io.Reader) (accepted, refused int, err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		batch.AddToScheme, batchv1.AddToScheme, core.AddToScheme, corev1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return 0, 0, err
		}
	}
	// Puts the defaults in, and makes of it what Kubernetes has inside.
	decoder := serializer.NewCodecFactory(scheme).UniversalDecoder()
	documents := yaml.NewYAMLReader(bufio.NewReader(stream))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return accepted, refused, nil
		}
		if err != nil {
			return accepted, refused, err
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return accepted, refused, err
		}
		faults, isJudged := validate(object)
		switch {
		case len(faults) > 0:
			fmt.Fprintln(os.Stderr, faults.ToAggregate())
			refused++
		case isJudged:
			accepted++
		}
	}
}

func validate(object runtime.Object) (faults field.ErrorList, isJudged bool) {
	switch object := object.(type) {
	case *batch.CronJob:
		return validation.ValidateCronJobCreate(object, corevalidation.PodValidationOptions{}), true
	case *batch.Job:
		return validation.ValidateJobCreate(created(object), validation.JobValidationOptions{RequirePrefixedLabels: true}), true
	}
	return nil, false
}

// created adds what the API server gives to a Job before it validates it.
func created(job *batch.Job) *batch.Job {
	job.UID = "0"
	own := map[string]string{
		"controller-uid":                     string(job.UID),
		"batch.kubernetes.io/controller-uid": string(job.UID),
		"job-name":                           job.Name,
		"batch.kubernetes.io/job-name":       job.Name,
	}
	for name, value := range own {
		metav1.SetMetaDataLabel(&job.Spec.Template.ObjectMeta, name, value)
	}
	job.Spec.ManualSelector = new(bool)
	job.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{
		"batch.kubernetes.io/controller-uid": string(job.UID),
	}}
	return job
}
