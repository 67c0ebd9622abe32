// Encodes objects as newer API servers store custom resources: a line of JSON each in, Base64 of CBOR out.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"log"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured/unstructuredscheme"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
)

func main() {
	encoder := cbor.NewSerializer(unstructuredscheme.NewUnstructuredCreator(), unstructuredscheme.NewUnstructuredObjectTyper())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		object, err := runtime.Decode(unstructured.UnstructuredJSONScheme, lines.Bytes())
		if err != nil {
			log.Fatal(err)
		}
		var value bytes.Buffer
		if err := encoder.Encode(object, &value); err != nil {
			log.Fatal(err)
		}
		fmt.Println(base64.StdEncoding.EncodeToString(value.Bytes()))
	}
}
