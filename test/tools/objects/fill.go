package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

// How deep types that contain themselves are nested.
const maxDepth = 2

type filler struct {
	random   *rand.Rand
	isSparse bool
	depth    map[reflect.Type]int
}

// An object of each kind, one line of JSON each. With seed 1 every field is set, with any other one about half of them.
func fill(seed int64) {
	encoder := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	for _, kind := range kinds() {
		object, err := scheme.Scheme.New(kind)
		if err != nil {
			fail(err.Error())
		}
		f := filler{random: rand.New(rand.NewSource(seed)), isSparse: seed != 1, depth: map[reflect.Type]int{}}
		f.set(reflect.ValueOf(object).Elem(), "")
		object.GetObjectKind().SetGroupVersionKind(kind)
		meta := object.(metav1.Object)
		meta.SetName("filled")
		meta.SetNamespace("objects")
		meta.SetSelfLink("")
		meta.SetResourceVersion("")
		var value bytes.Buffer
		if err := encoder.Encode(object, &value); err != nil {
			fail(kind.String() + ": " + err.Error())
		}
		text, err := json.Marshal(object)
		if err != nil {
			fail(kind.String() + ": " + err.Error())
		}
		print(map[string]any{
			"apiVersion": kind.GroupVersion().String(), "kind": kind.Kind, "value": value.Bytes(), "json": json.RawMessage(text),
		})
	}
}

func (f *filler) word() string { return fmt.Sprintf("w%d", f.random.Intn(100000)) }

func (f *filler) set(v reflect.Value, name string) {
	switch value := v.Addr().Interface().(type) {
	case *metav1.TypeMeta:
		return
	case *resource.Quantity:
		*value = resource.MustParse([]string{"1500m", "2Gi", "0", "1M", "3e2"}[f.random.Intn(5)])
		return
	case *intstr.IntOrString:
		*value = []intstr.IntOrString{intstr.FromInt(-1), intstr.FromInt(8080), intstr.FromString("25%")}[f.random.Intn(3)]
		return
	case *metav1.Time:
		*value = metav1.Time{Time: time.Unix(f.random.Int63n(4e9), 0)}
		return
	case *metav1.MicroTime:
		*value = metav1.MicroTime{Time: time.Unix(f.random.Int63n(4e9), f.random.Int63n(1e6)*1000)}
		return
	case *metav1.Duration:
		choices := []time.Duration{0, 5 * time.Minute, 1500 * time.Millisecond, 1, 123456 * time.Hour, -time.Microsecond}
		*value = metav1.Duration{Duration: choices[f.random.Intn(len(choices))]}
		return
	case *metav1.FieldsV1:
		setRaw(v, `{"f:metadata":{"f:labels":{".":{},"f:`+f.word()+`":{}}}}`)
		return
	case *runtime.RawExtension:
		value.Raw = []byte(`{"text":"` + f.word() + `","big":9007199254740993,"list":[1,2.5,null]}`)
		return
	case *types.UID:
		*value = types.UID("0b5d1f0a-0000-4000-8000-000000000001")
		return
	}
	form := forms[v.Type()]
	switch form {
	case "J":
		setRaw(v, []string{`{"a":[1,"x",null]}`, `"text"`, `12345678901234567`, `true`}[f.random.Intn(4)])
		return
	case "A", "O", "S":
		f.setUnion(v, f.random.Intn(2) == 0)
		return
	}
	t := v.Type()
	switch t.Kind() {
	case reflect.String:
		v.SetString(f.word())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(int64(f.random.Int31()) - 1<<30)
	case reflect.Int64:
		v.SetInt(f.random.Int63() - 1<<62)
	case reflect.Float64:
		v.SetFloat(float64(f.random.Intn(1000)) / 8)
	case reflect.Pointer:
		if f.depth[t.Elem()] < maxDepth {
			v.Set(reflect.New(t.Elem()))
			f.set(v.Elem(), name)
		}
	case reflect.Struct:
		f.depth[t]++
		for i := 0; i < t.NumField(); i++ {
			if t.Field(i).IsExported() && (!f.isSparse || f.random.Intn(2) == 0) {
				f.set(v.Field(i), t.Field(i).Name)
			}
		}
		f.depth[t]--
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(f.word()))
			return
		}
		if f.depth[t.Elem()] >= maxDepth {
			return
		}
		v.Set(reflect.MakeSlice(t, 2, 2))
		for i := 0; i < 2; i++ {
			f.set(v.Index(i), name)
		}
	case reflect.Map:
		if f.depth[t.Elem()] >= maxDepth {
			return
		}
		v.Set(reflect.MakeMap(t))
		for i := 0; i < 2; i++ {
			key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
			key.SetString(f.word())
			if t.Elem() == reflect.TypeOf(resource.Quantity{}) {
				// The API server derives requests from limits.
				key.SetString([]string{"cpu", "memory"}[i])
			}
			f.set(value, name)
			v.SetMapIndex(key, value)
		}
	default:
		fail("cannot fill " + t.String())
	}
}

// One of the two alternatives of a union in a schema.
func (f *filler) setUnion(v reflect.Value, wantsSchema bool) {
	schema := v.FieldByName("Schema")
	if wantsSchema && f.depth[schema.Type().Elem()] < maxDepth {
		f.set(schema, "")
		if allows := v.FieldByName("Allows"); allows.IsValid() {
			allows.SetBool(true)
		}
		return
	}
	for _, name := range []string{"JSONSchemas", "Property"} {
		if list := v.FieldByName(name); list.IsValid() {
			f.set(list, name)
		}
	}
}

func setRaw(v reflect.Value, text string) {
	v.FieldByName("Raw").SetBytes([]byte(text))
}
