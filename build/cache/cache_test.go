package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func key(n int) (k Key) { copy(k[:], fmt.Sprint("key", n)); return k }

func record(n int) *Record {
	return &Record{
		ID: NewID(), Created: time.Unix(int64(n), 5).UTC(), Description: fmt.Sprint("step ", n), Keys: []Key{key(n), key(n + 1000)},
		Outputs:    map[int][]Layer{0: {{DiffID: digest.FromString("base")}, {DiffID: digest.FromString(fmt.Sprint(n)), Created: time.Unix(9, 9).UTC(), Description: "RUN x"}}},
		Digests:    map[Key]Key{key(1): key(2)},
		Attributes: map[string]string{"etag": "x"},
	}
}

func TestSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	c := Open(path)
	want := record(1)
	c.Put(want)
	c.AddKey(want.ID, key(7))
	if !c.SetOutput(want.ID, 2, nil) {
		t.Error("a record that is there is said not to be")
	}
	c.SetDigest(want.ID, key(3), key(4))
	gone := record(2)
	c.Put(gone)
	if layers := c.Forget(gone.Created, gone.ID); layers != nil {
		t.Errorf("forgotten, though somebody came to it since: %v", layers)
	}
	if layers := c.Forget(time.Now(), gone.ID); len(layers) != 2 || layers[1] != gone.Outputs[0][1].DiffID {
		t.Errorf("layers of what was forgotten: %v", layers)
	}
	if c.SetOutput(gone.ID, 0, nil) {
		t.Error("a forgotten record has an output")
	}
	if _, ok := Open(path).Find(key(1)); ok {
		t.Error("it is in the journal before Commit")
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	later := record(3)
	c.Put(later)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	again := Open(path)
	for _, k := range []Key{key(1), key(1001), key(7)} {
		got, ok := again.Find(k)
		before, _ := c.records[want.ID], 0
		if !ok || !reflect.DeepEqual(got, before) {
			t.Errorf("%+v, want %+v", got, before)
		}
	}
	if _, ok := again.Find(key(2)); ok {
		t.Error("a forgotten record is back")
	}
	if got, ok := again.Find(key(3)); !ok || len(got.Outputs) != 1 {
		t.Errorf("%+v", got)
	}
	layers, err := again.Layers()
	if err != nil || len(layers) != 3 {
		t.Error(layers, err)
	}
}

func TestNewerRecordWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	c := Open(path)
	first, second := record(1), record(1)
	second.Created = second.Created.Add(time.Hour)
	c.Put(first)
	c.Put(second)
	if got, _ := c.Find(key(1)); got.ID != second.ID {
		t.Error("the first is found")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := Open(path)
	if got, _ := again.Find(key(1)); got.ID != second.ID {
		t.Error("the first is found after a restart")
	}
	if _, ok := again.Get(first.ID); !ok {
		t.Error("the first is gone")
	}
}

// TestDamage flips every byte, and cuts at every length: what comes before is kept, nothing is invented,
// and the cache goes on.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	c := Open(path)
	var ends []int64
	for n := range 2 {
		c.Put(record(n))
		if err := c.Commit(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, c.end)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	whole, _ := os.ReadFile(path)
	check := func(name string, b []byte, intact int64) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := Open(path)
		for n, end := range ends {
			r, ok := c.Find(key(n))
			if end <= intact && (!ok || r.Description != fmt.Sprint("step ", n)) {
				t.Fatalf("%s: record %d is lost", name, n)
			}
		}
		c.Put(record(50))
		if err := c.Close(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c = Open(path)
		if _, ok := c.Find(key(50)); !ok {
			t.Fatalf("%s: what was written after the damage is lost", name)
		}
	}
	for i := range whole {
		b := append([]byte(nil), whole...)
		b[i] ^= 0x40
		check(fmt.Sprint("flipped at ", i), b, int64(i))
		check(fmt.Sprint("cut at ", i), whole[:i:i], int64(i))
	}
}

func TestCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	c := Open(path)
	live := record(1)
	c.Put(live)
	for n := range 8000 {
		r := record(10 + n)
		c.Put(r)
		c.Forget(time.Now(), r.ID)
		if n%1000 == 999 {
			if err := c.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c.end > minCompact*2 {
		t.Errorf("%d bytes for one record", c.end)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got, ok := Open(path).Find(key(1)); !ok || got.ID != live.ID {
		t.Error("lost")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); left != nil {
		t.Error(left)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encodeAll([]byte(journalMagic), record(1)))
	f.Add(appendLine([]byte(journalMagic), begin(lineForget, ID{})))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, good, _ := decode(b)
		if good > len(b) {
			t.Fatal(good)
		}
		var again []byte
		again = append(again, journalMagic...)
		for _, r := range records {
			again = encodeAll(again, r)
		}
		same, _, _ := decode(again)
		if !reflect.DeepEqual(records, same) {
			t.Fatalf("%+v\n%+v", records, same)
		}
	})
}

func FuzzApply(f *testing.F) {
	f.Add(encodeOutput(ID{1}, 0, record(1).Outputs[0]))
	f.Fuzz(func(t *testing.T, payload []byte) {
		records := map[ID]*Record{{1}: {ID: ID{1}, Outputs: map[int][]Layer{}, Digests: map[Key]Key{}, Attributes: map[string]string{}}}
		_ = apply(records, payload)
	})
}

func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(b.TempDir(), "journal")
	c := Open(path)
	for n := range 2000 {
		c.Put(record(n))
	}
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := Open(path).Ready(); err != nil {
			b.Fatal(err)
		}
	}
}

// What a build came to since it began is not forgotten under it.
func TestForgetSparesWhatWasTouched(t *testing.T) {
	c := Open(filepath.Join(t.TempDir(), "cache"))
	put := func() *Record {
		r := &Record{ID: NewID(), Created: time.Now()}
		c.Put(r)
		return r
	}
	old, found, looked := put(), put(), put()
	found.Keys = []Key{{1}}
	c.Put(found)
	began := time.Now()
	made := put()
	if _, ok := c.Find(Key{1}); !ok {
		t.Fatal("the record is not found by its key")
	}
	if _, ok := c.Get(looked.ID); !ok {
		t.Fatal("the record is not found")
	}
	c.Forget(began, old.ID, found.ID, looked.ID, made.ID)
	left, err := c.Records()
	if err != nil || len(left) != 3 {
		t.Fatalf("%d records are left, want 3: %v", len(left), err)
	}
	for _, r := range left {
		if r.ID == old.ID {
			t.Error("the one that nobody came to is left")
		}
	}
}
