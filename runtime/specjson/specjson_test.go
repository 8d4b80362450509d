package specjson

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// fill gives every field a value, of every kind that it can have.
func fill(v reflect.Value, r *rand.Rand, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString([]string{"", "x", "é \"\\/\n\t<&>\u2028😀", "\x00\x7f"}[r.IntN(4)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt([]int64{0, -1, math.MinInt64 >> (64 - v.Type().Bits()), math.MaxInt64 >> (64 - v.Type().Bits())}[r.IntN(4)])
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint([]uint64{0, 1, math.MaxUint64 >> (64 - v.Type().Bits())}[r.IntN(3)])
	case reflect.Pointer:
		if r.IntN(6) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), r, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); v.Type() == reflect.TypeFor[specs.Spec]() && (f.Name == "Windows" || f.Name == "Solaris" || f.Name == "VM" || f.Name == "ZOS" || f.Name == "FreeBSD") {
				continue
			}
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), r, depth+1)
			} else if f := v.Field(i); v.Type().Field(i).Anonymous {
				for j := range f.NumField() {
					fill(v.FieldByName(f.Type().Field(j).Name), r, depth+1)
				}
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
		for i := range v.Len() {
			fill(v.Index(i), r, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(k, r, depth+1)
			fill(e, r, depth+1)
			v.SetMapIndex(k, e)
		}
	default:
		panic(v.Type())
	}
}

// TestAsEncodingJSON reads random configurations in which every field has a value.
func TestAsEncodingJSON(t *testing.T) {
	for seed := range uint64(200) {
		var s, want specs.Spec
		fill(reflect.ValueOf(&s).Elem(), rand.New(rand.NewPCG(1, seed)), 0)
		doc, err := json.MarshalIndent(s, "", []string{"", "\t"}[seed%2])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(doc, &want); err != nil {
			t.Fatal(err)
		}
		got, err := Spec(doc)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !reflect.DeepEqual(*got, want) {
			a, _ := json.MarshalIndent(got, "", " ")
			t.Fatalf("seed %d: read\n%s\nof\n%s", seed, a, doc)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, doc := range []string{
		"", "{", "[]", "}", `{"hostname"}`, `{"hostname":}`, `{"hostname":1}`, `{"hostname":"x",}`, `{,"hostname":"x"}`, `{"hostname":"x"} x`,
		`{"hostname":"x" "a":1}`, `{"mounts":{}}`, `{"mounts":[{}}`, `{"mounts":[,]}`, `{"process":[]}`, `{"process":{"terminal":"x"}}`,
		`{"process":{"user":{"uid":-1}}}`, `{"process":{"user":{"uid":4294967296}}}`, `{"process":{"user":{"uid":1.5}}}`, `{"process":{"user":{"uid":01}}}`,
		`{"hostname":"\x"}`, `{"hostname":"\u12"}`, `{"hostname":"a` + "\n" + `"}`, `{"hostname":"a`, `{"hostname":tru}`, `{"x":nul}`, `{"x":[1,2}`, `{"x":-}`, `{"x":1.}`, `{"x":1e}`,
		strings.Repeat(`{"x":`, 20000), strings.Repeat(`[`, 20000),
	} {
		if s, err := Spec([]byte(doc)); err == nil {
			t.Errorf("%.50q was read as %+v", doc, s)
		}
	}
}

func TestSkips(t *testing.T) {
	s, err := Spec([]byte(`{"x":{"a":[1,-2.5e+3,"s",null,true,false,{}]},"windows":{"a":1},"hostname":null,"domainname":"d","process":null}`))
	if err != nil || s.Domainname != "d" || s.Process != nil || s.Windows != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if p, err := Process([]byte(`{"args":["a"],"user":{"additionalGids":[1,2]}}`)); err != nil || p.Args[0] != "a" || p.User.AdditionalGids[1] != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	d := NewDecoder([]byte(`"AAEC"`))
	if b := d.Bytes(); d.End() != nil || string(b) != "\x00\x01\x02" {
		t.Errorf("%q, %v", b, d.End())
	}
}

// FuzzSpec: what encoding/json does not take is not taken, and what both take is the same.
func FuzzSpec(f *testing.F) {
	f.Add([]byte(`{"ociVersion":"1","process":{"args":["a"],"user":{"uid":5},"rlimits":[{"type":"x","hard":1}]},"linux":{"sysctl":{"a":"b"},"resources":{"memory":{"limit":5}}}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := Spec(doc)
		if err != nil {
			return
		}
		if !json.Valid(doc) {
			t.Fatalf("%q is no JSON and was read as %+v", doc, got)
		}
		if got == nil {
			return
		}
		var again *specs.Spec
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if again, err = Spec(b); err != nil || !reflect.DeepEqual(got, again) {
			var plain specs.Spec
			if json.Unmarshal(b, &plain) == nil && !reflect.DeepEqual(*again, plain) {
				t.Fatalf("%q: %v, %+v, then %+v", doc, err, got, again)
			}
		}
	})
}

func BenchmarkSpec(b *testing.B) {
	var s specs.Spec
	fill(reflect.ValueOf(&s).Elem(), rand.New(rand.NewPCG(1, 1)), 0)
	doc, err := json.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Spec(doc); err != nil {
			b.Fatal(err)
		}
	}
}
