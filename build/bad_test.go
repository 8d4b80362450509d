package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestBadInput: each is one sentence that says where and why, is of the right kind, and leaves nothing.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name       string
		dockerfile string
		files      map[string]string
		change     func(*Request, *local)
		want       string
		is         func(error) bool
	}{
		{name: "syntax", dockerfile: "FROM base\nCOPPY . .", want: "Dockerfile:2: unknown instruction: COPPY (did you mean COPY?)", is: errdefs.IsInvalidArgument},
		{name: "no source", dockerfile: "FROM base\n\nCOPY nosuch /x", want: `Dockerfile:3: "/nosuch" is not in the build context`, is: errdefs.IsNotFound},
		{name: "excluded source", dockerfile: "FROM base\nCOPY x /x", files: map[string]string{"x": "", ".dockerignore": "x"}, want: `Dockerfile:2: "/x" is not in the build context (or .dockerignore excludes it)`, is: errdefs.IsNotFound},
		{name: "no source in a stage", dockerfile: "FROM base AS b\nFROM base\nCOPY --from=b /nosuch /x", want: `Dockerfile:3: "/nosuch" is not in the stage or image that it is taken from`, is: errdefs.IsNotFound},
		{name: "a required parent", dockerfile: "FROM base\nCOPY --parents a/nosuch /x/", files: map[string]string{"a/b": ""}, want: `Dockerfile:2: "/a/nosuch" is not in the build context`, is: errdefs.IsNotFound},
		{name: "below a file", dockerfile: "FROM base\nCOPY f/x /x", files: map[string]string{"f": ""}, want: `Dockerfile:2: "/f/x" is not in the build context`, is: errdefs.IsNotFound},
		{name: "a loop of links", dockerfile: "FROM base\nCOPY l /x", files: map[string]string{"l": "-> l"}, want: "Dockerfile:2: open /l: too many levels of symbolic links", is: func(error) bool { return true }},
		{name: "no stage", dockerfile: "FROM base\nCOPY --from=nosuch a /", want: "Dockerfile:2: there is no image nosuch: not found", is: errdefs.IsNotFound},
		{name: "no target", dockerfile: "FROM base", change: func(r *Request, _ *local) { r.Target = "x" }, want: `Dockerfile: target stage "x" could not be found`, is: errdefs.IsInvalidArgument},
		{name: "no image", dockerfile: "FROM nosuch:1", want: "Dockerfile:1: there is no image nosuch:1: not found", is: errdefs.IsNotFound},
		{name: "run fails", dockerfile: "FROM base\nRUN true\nRUN echo before; exit 7", want: `Dockerfile:3: process "/bin/sh -c echo before; exit 7" did not complete successfully: exit code: 7`, is: isExit(7)},
		{name: "no such command", dockerfile: "FROM base\nRUN [\"nosuch\"]", want: `Dockerfile:2: process "nosuch" did not complete successfully: exit code: 127`, is: isExit(127)},
		{name: "killed", dockerfile: "FROM base\nRUN sh -c 'kill -9 $$'; exit $?", want: `Dockerfile:2: process "/bin/sh -c sh -c 'kill -9 $$'; exit $?" did not complete successfully: exit code: 137`, is: isExit(137)},
		{name: "unknown owner", dockerfile: "FROM base\nCOPY --chown=nobody a /a", files: map[string]string{"a": ""}, want: `Dockerfile:2: the user "nobody" is not in /etc/passwd of the image: invalid argument`, is: errdefs.IsInvalidArgument},
		{name: "unknown group", dockerfile: "FROM base\nCOPY --chown=0:nobody a /a", files: map[string]string{"a": ""}, want: `Dockerfile:2: the group "nobody" is not in /etc/group of the image: invalid argument`, is: errdefs.IsInvalidArgument},
		{name: "a file on a directory", dockerfile: "FROM base\nRUN mkdir -p /d/a\nCOPY d /d", files: map[string]string{"d/a": ""}, want: "Dockerfile:3: /d/a is a directory and cannot be replaced by the file a: invalid argument", is: errdefs.IsInvalidArgument},
		{name: "no secret", dockerfile: "FROM base\nRUN --mount=type=secret,id=k,required=true true", want: `Dockerfile:2: the step requires the secret "k", which the build was not given; add --secret id=k,src=FILE: not found`, is: errdefs.IsNotFound},
		{name: "ssh", dockerfile: "FROM base\nRUN --mount=type=ssh,required=true true", want: "Dockerfile:2: RUN --mount=type=ssh: ssh agents cannot be given to build steps yet; use a secret: not implemented", is: errdefs.IsNotImplemented},
		{name: "insecure", dockerfile: "FROM base\nRUN --security=insecure true", want: "Dockerfile:2: RUN --security=insecure is not supported: permission denied", is: errdefs.IsPermissionDenied},
		{name: "host network", dockerfile: "FROM base\nRUN --network=host true", want: "Dockerfile:2: RUN --network=host is not allowed here; start the build with --network host: permission denied", is: errdefs.IsPermissionDenied},
		{name: "git", dockerfile: "FROM base\nADD https://example.org/repo.git /x", want: "Dockerfile:2: https://example.org/repo.git: git repositories are not sources here yet; clone it and give the directory: not implemented", is: errdefs.IsNotImplemented},
		{name: "bind mount without a source", dockerfile: "FROM base\nRUN --mount=type=bind,source=no,target=/x true", want: `Dockerfile:2: "/no" is not in the build context`, is: errdefs.IsNotFound},
		{name: "a directory mounted on a file", dockerfile: "FROM base\nRUN --mount=type=tmpfs,target=/etc/passwd true", want: "Dockerfile:2: mount on /etc/passwd: /etc/passwd is there, and not of the kind that is to be mounted on it: invalid argument", is: errdefs.IsInvalidArgument},
		{name: "named context of another kind", dockerfile: "FROM base", change: func(r *Request, _ *local) { r.Contexts = map[string]string{"x": "oci-layout://x"} }, want: `build context "x": "oci-layout://x": only a directory or docker-image://REFERENCE can be a named context so far: invalid argument`, is: errdefs.IsInvalidArgument},
		{name: "bad mode", dockerfile: "FROM base\nCOPY --chmod=99999 a /a", files: map[string]string{"a": ""}, want: "Dockerfile:2: invalid chmod parameter: '99999'. it should be octal string and between 0 and 07777", is: errdefs.IsInvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			files := map[string]string{"Dockerfile": c.dockerfile}
			for k, v := range c.files {
				files[k] = v
			}
			src := w.local(files)
			b, err := w.try(src, func(r *Request) {
				if c.change != nil {
					c.change(r, src)
				}
			})
			if err == nil {
				t.Fatal("it was built")
			}
			if err.Error() != c.want || !c.is(err) {
				t.Errorf("%q\n(%s)", err, b.log)
			}
		})
	}
	w.t = t
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.root, "build/solver/steps/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func isExit(code int) func(error) bool {
	return func(err error) bool {
		var e *ExitError
		return errors.As(err, &e) && e.Code == code
	}
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func TestUnpack(t *testing.T) {
	w := newWorld(t)
	plain := tarOf(map[string]file{
		"d/": {mode: 0o750, uid: 7}, "d/f": {mode: 0o4755, data: "1", uid: 7, gid: 8}, "d/l": {link: "/etc/passwd"}, "e/deep/er": {mode: 0o644, data: "2"},
		"hard": {typ: tar.TypeLink, link: "d/f"},
	})
	want := map[string]string{"x/d": "750 7:0 dir", "x/d/f": "4755 7:8 1", "x/d/l": "-> /etc/passwd", "x/e": "755 0:0 dir", "x/e/deep/er": "644 0:0 2", "x/hard": "4755 7:8 1"}
	for name, data := range map[string]string{"plain": string(plain), "gzip": string(gz(plain)), "xz": xzOf(t, plain), "bzip2": bzip2Of(t, plain), "zstd": zstdOf(t, plain)} {
		src := w.local(map[string]string{"Dockerfile": "FROM scratch\nADD a /x/", "a": data})
		got := w.files(w.build(src))
		for p, v := range want {
			if got[p] != v {
				t.Errorf("%s: %s: %q, want %q", name, p, got[p], v)
			}
		}
	}
	// Not unpacked: by COPY, and what is no archive.
	got := w.files(w.build(w.local(map[string]string{"Dockerfile": "FROM scratch\nCOPY a.tar /x/\nADD f /y/", "a.tar": string(plain), "f": "no archive"})))
	if len(got["x/a.tar"]) < 1000 || got["y/f"] != "644 0:0 no archive" {
		t.Errorf("%.200v", got)
	}
	// Into what is there, through links of the image, with an owner.
	got = w.files(w.build(w.local(map[string]string{"Dockerfile": "FROM base\nADD --chown=app a /var/run", "a": string(plain)})))
	if got["run/d/f"] != "4755 42:43 1" || got["var/run"] != "-> /run" {
		t.Errorf("%v", got)
	}
	// A link of the archive does not lead out of where it is unpacked.
	escape := tarOf(map[string]file{"a": {link: "../../../../etc"}, "a/evil": {mode: 0o644, data: "!"}, "b": {link: "/"}, "b/evil": {mode: 0o644, data: "!"}})
	got = w.files(w.build(w.local(map[string]string{"Dockerfile": "FROM base\nADD a /x/", "a": string(escape)})))
	if got["etc/evil"] != "" || got["evil"] != "" || got["x/etc/evil"] == "" || got["x/evil"] == "" {
		t.Errorf("%v", got)
	}
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"dot dot":      {tarOf(map[string]file{"../evil": {mode: 0o644}}), `"../evil" leads out of the archive`},
		"deep dot dot": {tarOf(map[string]file{"a/../../../evil": {mode: 0o644}}), `leads out of the archive`},
		"hard link":    {tarOf(map[string]file{"l": {typ: tar.TypeLink, link: "../../etc/passwd"}}), `leads out of the archive`},
		"no target":    {tarOf(map[string]file{"l": {typ: tar.TypeLink, link: "etc/passwd"}}), `which is no file before it`},
		"torn":         {tarOf(map[string]file{"f": {mode: 0o644, data: strings.Repeat("x", 100_000)}})[:50_000], "unexpected EOF"},
	} {
		_, err := w.try(w.local(map[string]string{"Dockerfile": "FROM base\nADD a.tar /x/", "a.tar": string(c.archive)}))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "Dockerfile:2: unpack a.tar: ") || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRemote(t *testing.T) {
	w := newWorld(t)
	content, tag, requests := "remote", `"1"`, 0
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		requests++
		switch {
		case r.URL.Path == "/gone":
			http.NotFound(rw, r)
		case tag != "" && r.Header.Get("If-None-Match") == tag:
			rw.WriteHeader(http.StatusNotModified)
		default:
			rw.Header().Set("ETag", tag)
			rw.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			_, _ = rw.Write([]byte(content))
		}
	}))
	defer srv.Close()
	dockerfile := func(flags, url string) *local {
		return w.local(map[string]string{"Dockerfile": "FROM scratch\nADD " + flags + " " + srv.URL + url + " /d/"})
	}
	b := w.build(dockerfile("", "/file.txt"))
	if got := w.files(b); got["d/file.txt"] != "600 0:0 remote" {
		t.Errorf("%v", got)
	}
	if again := w.build(dockerfile("", "/file.txt")); again.id != b.id || again.Cached != again.Steps {
		t.Error("not cached though the server says that it has not changed")
	}
	content, tag = "changed", `"2"`
	if got := w.files(w.build(dockerfile("", "/file.txt"))); got["d/file.txt"] != "600 0:0 changed" {
		t.Errorf("%v", got)
	}
	before := requests
	const sum = "sha256:ccd6f6e2a9ce6e7b6e3d2b3ec9b3f5b1b0a8a1a0" // too short
	_, err := w.try(dockerfile("--checksum="+sum, "/file.txt"))
	if !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	wrong := "sha256:" + strings.Repeat("0", 64)
	_, err = w.try(dockerfile("--checksum="+wrong, "/file.txt"))
	if err == nil || !strings.Contains(err.Error(), "has the checksum sha256:") || !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	right := "sha256:" + hexSum("changed")
	b = w.build(dockerfile("--checksum="+right+" --chmod=644", "/file.txt"))
	if got := w.files(b); got["d/file.txt"] != "644 0:0 changed" || requests > before+1 {
		t.Errorf("%v, %d requests", got, requests-before)
	}
	before = requests
	if again := w.build(dockerfile("--checksum="+right+" --chmod=644", "/file.txt")); again.id != b.id || requests != before {
		t.Error("a file with a checksum was asked for again")
	}
	_, err = w.try(dockerfile("", "/gone"))
	if err == nil || !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "the server answers 404 Not Found") {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.root, "build/contexts/contents/pack-*")); len(left) != 2 {
		t.Errorf("what was refused is kept: %v", left)
	}
}
