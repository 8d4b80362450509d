package protocol

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// full returns a value of the type in which no field is zero, so that a field that the codec forgot is noticed.
func full(t *testing.T, v any) reflect.Value {
	t.Helper()
	p := reflect.New(reflect.TypeOf(v))
	p.Elem().Set(reflect.ValueOf(v))
	for i := range p.Elem().NumField() {
		if f := p.Elem().Field(i); f.IsZero() {
			t.Fatalf("%T: the test gives no %s", v, p.Elem().Type().Field(i).Name)
		}
	}
	return p
}

// TestDecode: what encoding/json writes of the engine's messages is read back.
func TestDecode(t *testing.T) {
	spec := &specs.Spec{Version: "1", Process: &specs.Process{Args: []string{"a"}}, Linux: &specs.Linux{CgroupsPath: "/x"}}
	attach := AttachRequest{Stdin: true, Stdout: true, Stderr: true, DropWhenSlow: true}
	for _, v := range []any{
		PrepareRequest{ID: "i", Log: "/l", Spec: spec, Cgroup: "/c", LateNetwork: true},
		StartRequest{ID: "i", Dir: "/d", Spec: spec, Filter: []byte{1, 2}, FilterBits: 4, Init: true, Stdin: StdinOpen, Attach: &attach,
			Log:   Log{Path: "/l", MaxSize: -1, MaxFiles: 2},
			Files: Files{Root: true, Mounts: []string{"/m"}, NetNS: true, Stream: true, Listeners: []Listener{{"tcp", netip.MustParseAddrPort("10.1.2.3:80")}, {"udp", netip.MustParseAddrPort("[fd00::1]:53")}}}},
		ExecRequest{Process: spec.Process, Filter: []byte{1}, FilterBits: 2, Attach: attach, EndWithEngine: true},
		attach, SignalRequest{Signal: 9, All: true}, Size{Height: 1, Width: 65535},
	} {
		want := full(t, v)
		payload, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(want.Type().Elem())
		m := Message{Payload: payload}
		if _, ok := got.Interface().(decodable); !ok {
			t.Errorf("%T is read with reflection", v)
		}
		if err := m.Decode(got.Interface()); err != nil || !reflect.DeepEqual(got.Interface(), want.Interface()) {
			t.Errorf("%+v, %v, want %+v", got.Elem(), err, want.Elem())
		}
		payload = append(payload[:len(payload)-1], `,"Later":[{}]}`...) // a field that a later version has
		m.Payload = payload
		if err := m.Decode(reflect.New(want.Type().Elem()).Interface()); err != nil {
			t.Errorf("%T with a field that nobody knows: %v", v, err)
		}
		m.Payload = []byte(`{"x"`)
		if err := m.Decode(reflect.New(want.Type().Elem()).Interface()); err == nil {
			t.Errorf("%T: a torn message was read", v)
		}
	}
}

// TestEncode: what the shim writes is read back by encoding/json.
func TestEncode(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	exit := ExitReport{Status: 137, At: now, OOMKilled: true, LogOffset: 1 << 60, LogDropped: 3, Lost: true}
	for _, v := range []any{
		StartedReply{Pid: 7, At: now}, exit,
		Failure{Step: "mount", Object: "/a\"\\\n\x01é", Errno: unix.EPERM, Detail: "d", Exec: true, Gone: true, NoTerminal: true},
		State{Version: 1, ID: "i", Pid: 5, Started: now, Cgroup: "/c", Exited: &exit, Terminal: true, OpenStdin: true, Execs: 2},
		Record{Version: 1, ID: "i", Shim: 4, Pid: 5, Cgroup: "/c", Started: now, Exit: &exit},
	} {
		want := full(t, v)
		if _, ok := v.(appendable); !ok {
			t.Errorf("%T is written with reflection", v)
		}
		b, err := Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(want.Type().Elem())
		if err := json.Unmarshal(b, got.Interface()); err != nil || !reflect.DeepEqual(got.Interface(), want.Interface()) {
			t.Errorf("%s: %+v, %v, want %+v", b, got.Elem(), err, want.Elem())
		}
	}
}
