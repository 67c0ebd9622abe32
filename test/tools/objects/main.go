// Facts about the built-in types of Kubernetes, for the decoder in src/objects, from the tags of the Go structs:
//
//	objects table       the table of this version's types, as JSON
//	objects fill SEED   an object of each type with its fields set: its value as the API server stores it, and its JSON
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationv1beta1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1"
)

// Types whose JSON form is not that of their fields, by the letter that the decoder knows them by.
var forms = map[reflect.Type]string{
	reflect.TypeOf(resource.Quantity{}):                                 "Q",
	reflect.TypeOf(intstr.IntOrString{}):                                "I",
	reflect.TypeOf(metav1.Time{}):                                       "T",
	reflect.TypeOf(metav1.MicroTime{}):                                  "U",
	reflect.TypeOf(metav1.Duration{}):                                   "D",
	reflect.TypeOf(metav1.FieldsV1{}):                                   "F",
	reflect.TypeOf(runtime.RawExtension{}):                              "R",
	reflect.TypeOf(apiextensionsv1.JSON{}):                              "J",
	reflect.TypeOf(apiextensionsv1beta1.JSON{}):                         "J",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrArray{}):            "A",
	reflect.TypeOf(apiextensionsv1beta1.JSONSchemaPropsOrArray{}):       "A",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrBool{}):             "O",
	reflect.TypeOf(apiextensionsv1beta1.JSONSchemaPropsOrBool{}):        "O",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrStringArray{}):      "S",
	reflect.TypeOf(apiextensionsv1beta1.JSONSchemaPropsOrStringArray{}): "S",
}

// Schema of forms A, O and S.
var schemas = map[string]reflect.Type{
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1":      reflect.TypeOf(apiextensionsv1.JSONSchemaProps{}),
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1": reflect.TypeOf(apiextensionsv1beta1.JSONSchemaProps{}),
}

var marshaler = reflect.TypeOf((*json.Marshaler)(nil)).Elem()

const (
	omitEmpty = 1 << iota
	pointer
	omitZero
)

type builder struct {
	messages map[string][][]any
}

func main() {
	if len(os.Args) < 2 {
		fail("usage: objects table | fill SEED")
	}
	for _, add := range []func(*runtime.Scheme) error{
		apiextensionsv1.AddToScheme, apiextensionsv1beta1.AddToScheme, apiregistrationv1.AddToScheme, apiregistrationv1beta1.AddToScheme,
	} {
		if err := add(scheme.Scheme); err != nil {
			fail(err.Error())
		}
	}

	switch {
	case os.Args[1] == "table":
		print(table())
	case os.Args[1] == "fill" && len(os.Args) == 3:
		seed, err := strconv.ParseInt(os.Args[2], 10, 64)
		if err != nil {
			fail(err.Error())
		}
		fill(seed)
	default:
		fail("usage: objects table | fill SEED")
	}
}

func print(value any) {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		fail(err.Error())
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "objects: "+message)
	os.Exit(1)
}

// Kinds that can be stored: they have metadata of an object, not of a list.
func kinds() []schema.GroupVersionKind {
	var found []schema.GroupVersionKind
	for kind, t := range scheme.Scheme.AllKnownTypes() {
		meta, has := t.FieldByName("ObjectMeta")
		if has && meta.Anonymous && kind.Version != runtime.APIVersionInternal {
			found = append(found, kind)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].String() < found[j].String() })
	return found
}

func table() any {
	b := builder{messages: map[string][][]any{}}
	types := map[string]string{}
	for _, kind := range kinds() {
		types[kind.GroupVersion().String()+" "+kind.Kind] = b.message(scheme.Scheme.AllKnownTypes()[kind])
	}
	return map[string]any{"types": types, "messages": b.messages}
}

func nameOf(t reflect.Type) string {
	return strings.TrimPrefix(t.PkgPath(), "k8s.io/") + "." + t.Name()
}

// Adds a message and those in it, and returns its name.
func (b *builder) message(t reflect.Type) string {
	name := nameOf(t)
	if b.messages[name] != nil {
		return name
	}
	if t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) {
		fail("the JSON form of " + name + " is not known")
	}
	b.messages[name] = [][]any{}
	fields := [][]any{}
	for i := 0; i < t.NumField(); i++ {
		field := t.Field(i)
		number, has := protobufNumber(field)
		if !has {
			if field.Type != reflect.TypeOf(metav1.TypeMeta{}) && field.Tag.Get("json") != "-" && field.IsExported() {
				fail(name + "." + field.Name + " has no number")
			}
			continue
		}
		json, flags := jsonName(field)
		kind := field.Type
		if kind.Kind() == reflect.Pointer {
			flags |= pointer
			kind = kind.Elem()
		}
		fields = append(fields, []any{number, json, b.form(kind, name+"."+field.Name), flags})
	}
	b.messages[name] = fields
	return name
}

func protobufNumber(field reflect.StructField) (int, bool) {
	parts := strings.Split(field.Tag.Get("protobuf"), ",")
	if len(parts) < 2 {
		return 0, false
	}
	number, err := strconv.Atoi(parts[1])
	return number, err == nil
}

// The name in JSON, empty for a struct whose fields are those of its parent.
func jsonName(field reflect.StructField) (string, int) {
	parts := strings.Split(field.Tag.Get("json"), ",")
	flags := 0
	for _, option := range parts[1:] {
		switch option {
		case "omitempty":
			flags |= omitEmpty
		case "omitzero":
			flags |= omitZero
		}
	}
	if parts[0] == "" && !field.Anonymous {
		fail("field " + field.Name + " has no name in JSON")
	}
	return parts[0], flags
}

// The form of a value: a letter, a message's name after a colon, `[` before the form of elements, `{` before that of a map's values.
func (b *builder) form(t reflect.Type, where string) string {
	if letter, known := forms[t]; known {
		if t.Kind() == reflect.Struct && strings.Contains("AOS", letter) {
			return letter + ":" + b.message(schemas[t.PkgPath()])
		}
		return letter
	}
	switch t.Kind() {
	case reflect.String:
		return "s"
	case reflect.Bool:
		return "b"
	case reflect.Int32:
		return "i"
	case reflect.Int64:
		return "l"
	case reflect.Float64:
		return "d"
	case reflect.Struct:
		return ":" + b.message(t)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "B"
		}
		return "[" + b.element(t.Elem(), where)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			fail(where + ": keys that are not text")
		}
		return "{" + b.element(t.Elem(), where)
	}
	fail(where + ": " + t.String() + " is not known")
	return ""
}

// A named list within a list or map is a message of its own, with the elements in field 1: `L`.
func (b *builder) element(t reflect.Type, where string) string {
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String && t.Name() != "" {
		return "L"
	}
	if t.Kind() == reflect.Pointer {
		fail(where + ": pointers as elements")
	}
	return b.form(t, where)
}
