// Judges the pods of manifests on stdin as the API server does in a namespace that enforces Pod Security "restricted", and prints
// one line of JSON for each: its kind and name, and what is forbidden. Its exit code tells only whether it could judge.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

type verdict struct {
	Kind      string   `json:"kind"`
	Name      string   `json:"name"`
	Forbidden []string `json:"forbidden"`
}

func main() {
	if err := judge(os.Stdin, json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(stream io.Reader, out *json.Encoder) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	documents := yaml.NewYAMLReader(bufio.NewReader(stream))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		kind, name, pod, err := podOf(document)
		if err != nil {
			return err
		}
		if pod == nil {
			continue
		}
		forbidden := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec)).ForbiddenReasons
		if err := out.Encode(verdict{kind, name, append([]string{}, forbidden...)}); err != nil {
			return err
		}
	}
}

func podOf(document []byte) (kind, name string, pod *corev1.PodTemplateSpec, err error) {
	var head struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal(document, &head); err != nil {
		return "", "", nil, err
	}
	switch head.Kind {
	case "CronJob":
		var object batchv1.CronJob
		err = yaml.Unmarshal(document, &object)
		pod = &object.Spec.JobTemplate.Spec.Template
	case "Job":
		var object batchv1.Job
		err = yaml.Unmarshal(document, &object)
		pod = &object.Spec.Template
	}
	return head.Kind, head.Metadata.Name, pod, err
}
