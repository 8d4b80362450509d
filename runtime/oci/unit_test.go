package oci

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The record that is written by hand is read as encoding/json reads it.
func TestRecordJSON(t *testing.T) {
	for _, r := range []record{
		{},
		{Version: "1.3.0", ID: "a", Pid: 7, PidStart: 1 << 60, Bundle: "/b\"\\\n\t\x01ü\u2028<&>", Created: time.Unix(1, 2).UTC(), Cgroup: "/a", Owner: -1,
			More: []string{"cpuset", "blkio"}, Annotations: map[string]string{"a": "b", "c\n": ""}},
	} {
		var got record
		if err := json.Unmarshal(r.json(), &got); err != nil {
			t.Fatalf("%s: %v", r.json(), err)
		}
		if !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %+v, want %+v", r.json(), got, r)
		}
	}
}

func FuzzRecordJSON(f *testing.F) {
	f.Add("bundle", "key", "value")
	f.Fuzz(func(t *testing.T, bundle, key, value string) {
		r := record{Bundle: bundle, Annotations: map[string]string{key: value}}
		var got, want record
		b, err := json.Marshal(r)
		if err != nil {
			t.Skip()
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(r.json(), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", r.json(), got, err)
		}
	})
}

func TestParseSignal(t *testing.T) {
	for name, want := range map[string]unix.Signal{"TERM": unix.SIGTERM, "SIGKILL": 9, "9": 9, "0": 0, "term": unix.SIGTERM, "RTMIN": 34, "RTMIN+3": 37, "SIGRTMAX-1": 63, "64": 64} {
		if got, err := parseSignal(name); got != want || err != nil {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "65", "-1", "DANCE", "RTMIN+40", "RTMAX+1"} {
		if got, err := parseSignal(name); err == nil {
			t.Errorf("%q: %d", name, got)
		}
	}
}

func TestHomeOf(t *testing.T) {
	passwd := "root:x:0:0::/root:/bin/sh\nbroken\nrelative:x:5:5::home:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
	for uid, want := range map[uint32]string{0: "/root", 1000: "/home/user", 5: "/", 7: "/"} {
		if got := homeOf(passwd, uid); got != want {
			t.Errorf("%d: %q", uid, got)
		}
	}
}

func TestParse(t *testing.T) {
	var value, other string
	var list []string
	var on bool
	rest, err := parse([]string{"-v", "1", "--other=2", "-l", "a", "--list=b=c", "-on", "word", "--other", "3"},
		[]option{text(&value, "", "-v"), text(&other, "", "--other"), many(&list, "", "-l", "--list"), toggle(&on, "", "--on")})
	if err != nil || value != "1" || other != "2" || !reflect.DeepEqual(list, []string{"a", "b=c"}) || !on || !reflect.DeepEqual(rest, []string{"word", "--other", "3"}) {
		t.Errorf("%q %q %q %v %q %v", value, other, list, on, rest, err)
	}
	if rest, err := parse([]string{"--", "-v"}, nil); err != nil || !reflect.DeepEqual(rest, []string{"-v"}) {
		t.Errorf("%q %v", rest, err)
	}
}

// A removal that is cut short leaves what "delete --force" sweeps: a directory without its record, not one with nothing
// but that.
func TestRecordGoesFirst(t *testing.T) {
	c := &container{dir: filepath.Join(t.TempDir(), "id")}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{configFile, stateFile} {
		if err := os.WriteFile(filepath.Join(c.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, c.dir, unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	if err := c.removeDir(); err != nil {
		t.Fatal(err)
	}
	events := make([]byte, 4096)
	n, err := unix.Read(fd, events)
	if err != nil {
		t.Fatal(err)
	}
	record, config := bytes.Index(events[:n], []byte(stateFile)), bytes.Index(events[:n], []byte(configFile))
	if record < 0 || config < record {
		t.Errorf("the record went at %d, the configuration at %d", record, config)
	}
}
