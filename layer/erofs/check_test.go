package erofs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Attributes as the kernel takes them: cap_net_raw=ep, the same for root of a user namespace, and
// u::rw-,u:1000:r--,g::r--,m::r--,o::---.
const (
	capV2 = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	capV3 = "\x01\x00\x00\x03\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe8\x03\x00\x00"
	acl   = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"
)

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// check checks what holds for every layer file: digests, sizes, the tar inside, the same file again.
func check(t testing.TB, f *os.File, res Result, tar []byte) {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if res.Size != info.Size() || res.Size%fileAlign != 0 || res.TarSize != int64(len(tar)) || res.DiffID != digest.FromBytes(tar) {
		t.Errorf("%+v of a file of %d bytes, tar %d %s", res, info.Size(), len(tar), digest.FromBytes(tar))
	}
	if err := VerifyMetadata(f, res.MetadataDigest); err != nil {
		t.Error(err)
	}
	if err := VerifyTar(t.Context(), f, res.DiffID); err != nil {
		t.Error(err)
	}
	h, err := ReadHeader(f)
	if want := (Header{Version: Version, DiffID: res.DiffID, TarSize: res.TarSize}); err != nil || h != want {
		t.Errorf("%+v %v", h, err)
	}
	inside, err := Tar(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(inside); err != nil || !bytes.Equal(got, tar) {
		t.Errorf("the tar inside differs: %v", err)
	}
}
