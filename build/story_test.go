package build

import (
	"slices"
	"strings"
	"testing"
)

// story is a Dockerfile and what must come of it. In want, a path without value must not be there.
type story struct {
	name       string
	dockerfile string
	files      map[string]string
	change     func(*Request, *local)
	want       map[string]string
	log        string                          // what steps must say, among other things
	check      func(*testing.T, *world, built) // anything else
}

var stories = []story{
	{name: "copy a file to a name", dockerfile: "FROM base\nCOPY a /x", files: map[string]string{"a": "1"}, want: map[string]string{"x": "644 0:0 1"}},
	{name: "copy a file into a new directory", dockerfile: "FROM base\nCOPY a /d/e/", files: map[string]string{"a": "1"}, want: map[string]string{"d": "755 0:0 dir", "d/e/a": "644 0:0 1"}},
	{name: "copy a file into a directory that is there", dockerfile: "FROM base\nCOPY a /home", files: map[string]string{"a": "1"}, want: map[string]string{"home/a": "644 0:0 1"}},
	{name: "copy a directory's content", dockerfile: "FROM base\nCOPY src /app", files: map[string]string{"src/a": "1", "src/d/b": "2", "src/empty/": ""},
		want: map[string]string{"app/a": "644 0:0 1", "app/d/b": "644 0:0 2", "app/empty": "755 0:0 dir", "app/src": ""}},
	{name: "copy everything", dockerfile: "FROM base\nWORKDIR /w\nCOPY . .", files: map[string]string{"a": "1", "d/b": "2"}, want: map[string]string{"w/a": "644 0:0 1", "w/d/b": "644 0:0 2", "w/Dockerfile": "644 0:0 FROM base\nWORKDIR /w\nCOPY . ."}},
	{name: "several sources", dockerfile: "FROM base\nCOPY a b d /dst/", files: map[string]string{"a": "1", "b": "2", "d/c": "3"}, want: map[string]string{"dst/a": "644 0:0 1", "dst/b": "644 0:0 2", "dst/c": "644 0:0 3"}},
	{name: "wildcards", dockerfile: "FROM base\nCOPY *.go pkg/*/m? /dst/", files: map[string]string{"a.go": "1", "b.txt": "", "pkg/x/m1": "2", "pkg/y/m2": "3", "pkg/y/n": ""},
		want: map[string]string{"dst/a.go": "644 0:0 1", "dst/m1": "644 0:0 2", "dst/m2": "644 0:0 3", "dst/b.txt": "", "dst/n": ""}},
	{name: "a wildcard that matches nothing", dockerfile: "FROM base\nCOPY a no*.such /dst/", files: map[string]string{"a": "1"}, want: map[string]string{"dst/a": "644 0:0 1"}},
	{name: "links", dockerfile: "FROM base\nCOPY link /followed\nCOPY dir /dir\nCOPY dirlink /dirlink", files: map[string]string{"real": "1", "link": "-> real", "dir/l": "-> ../../../etc/passwd", "dir/f": "2", "dirlink": "-> dir"},
		want: map[string]string{"followed": "644 0:0 1", "dir/l": "-> ../../../etc/passwd", "dirlink/f": "644 0:0 2"}},
	{name: "a link that leads out of the context stays inside", dockerfile: "FROM base\nCOPY out /x", files: map[string]string{"out": "-> ../../../../a", "a": "inside"}, want: map[string]string{"x": "644 0:0 inside"}},
	{name: "the destination through a link of the image", dockerfile: "FROM base\nCOPY a /var/run/x", files: map[string]string{"a": "1"}, want: map[string]string{"run/x": "644 0:0 1", "var/run": "-> /run"}},
	{name: "the destination through a link that leads out", dockerfile: "FROM base\nRUN ln -s ../../../../../../tmp /esc\nCOPY a /esc/x", files: map[string]string{"a": "1"}, want: map[string]string{"tmp/x": "644 0:0 1"}},
	{name: "overwrite", dockerfile: "FROM base\nCOPY a /x\nCOPY b /x", files: map[string]string{"a": "1", "b": "2"}, want: map[string]string{"x": "644 0:0 2"}},
	{name: "a link in the way is replaced, not followed", dockerfile: "FROM base\nRUN mkdir /d && ln -s /etc/passwd /d/f\nCOPY d /d", files: map[string]string{"d/f": "1"}, want: map[string]string{"d/f": "644 0:0 1"}},
	{name: "modes", dockerfile: "FROM base\nCOPY s /s\nCOPY --chmod=4711 a /a\nCOPY --chmod=u=rwX,go=rX d /d", files: map[string]string{"s": "", "a": "", "d/x": "", "d/f": ""},
		change: func(_ *Request, l *local) { l.modes = map[string]uint32{"s": 0o4755, "d/x": 0o700, "d": 0o700} },
		want:   map[string]string{"s": "4755 0:0 ", "a": "4711 0:0 ", "d": "755 0:0 dir", "d/x": "755 0:0 ", "d/f": "644 0:0 "}},
	{name: "owners", dockerfile: "FROM base\nCOPY --chown=7 a /a\nCOPY --chown=7:8 a /b\nCOPY --chown=app a /c\nCOPY --chown=app:staff a /d/e/\nCOPY --chown=:staff a /f", files: map[string]string{"a": ""},
		want: map[string]string{"a": "644 7:7 ", "b": "644 7:8 ", "c": "644 42:43 ", "d": "755 42:50 dir", "d/e/a": "644 42:50 ", "f": "644 0:50 "}},
	{name: "owner from a user made by a step", dockerfile: "FROM base\nRUN echo new:x:99:98::/:/bin/sh >> /etc/passwd\nCOPY --chown=new a /a", files: map[string]string{"a": ""}, want: map[string]string{"a": "644 99:98 "}},
	{name: "exclude", dockerfile: "FROM base\nCOPY --exclude=*.md --exclude=d/skip . /x/", files: map[string]string{"a": "1", "b.md": "", "d/c.md": "2", "d/skip/e": "", "d/f": "3"},
		want: map[string]string{"x/a": "644 0:0 1", "x/b.md": "", "x/d/c.md": "644 0:0 2", "x/d/skip": "", "x/d/f": "644 0:0 3"}},
	{name: "parents", dockerfile: "FROM base\nCOPY --parents x/y/z.txt p/./q/*.go /dst/", files: map[string]string{"x/y/z.txt": "1", "x/n": "", "p/q/a.go": "2", "p/q/b": ""},
		want: map[string]string{"dst/x/y/z.txt": "644 0:0 1", "dst/q/a.go": "644 0:0 2", "dst/x/n": "", "dst/q/b": "", "dst/p": ""}},
	{name: "dockerignore", dockerfile: "FROM base\nCOPY . /x/", files: map[string]string{".dockerignore": "*.md\n!keep.md\nsecret\n", "a.md": "", "keep.md": "1", "secret/k": "", "f": "2"},
		want: map[string]string{"x/a.md": "", "x/keep.md": "644 0:0 1", "x/secret": "", "x/f": "644 0:0 2"}},
	{name: "the Dockerfile is excluded", dockerfile: "FROM base\nCOPY . /x/", files: map[string]string{".dockerignore": "Dockerfile\n.dockerignore\n", "f": "1"}, want: map[string]string{"x/f": "644 0:0 1", "x/Dockerfile": "", "x/.dockerignore": ""}},
	{name: "link", dockerfile: "FROM base\nRUN mkdir -m 700 /d && echo old > /d/old\nCOPY --link a /d/\nCOPY --link --chown=5:6 d /e/", files: map[string]string{"a": "1", "d/b": "2"},
		want: map[string]string{"d/a": "644 0:0 1", "d/old": "644 0:0 old", "e/b": "644 5:6 2"}},
	{name: "link hides nothing", dockerfile: "FROM base\nCOPY --link etc /etc/\nCOPY --link etc /etc/\nRUN cat /etc/passwd /etc/own", files: map[string]string{"etc/own": "own"}, log: "root:x:0:0",
		want: map[string]string{"etc/own": "644 0:0 own"}},
	{name: "heredocs", dockerfile: "FROM base\nCOPY <<E1 <<E2 /d/\none\nE1\ntwo\nE2\nCOPY --chmod=755 <<'EOF' /script\n#!/bin/sh\necho script $1 says\nEOF\nRUN /script it\nRUN <<EOF\nset -e\necho from a heredoc\nEOF\nCOPY <<EOF /etc/motd\nhello\nEOF\n",
		log: "script it says\nfrom a heredoc\n", want: map[string]string{"d/E1": "644 0:0 one", "d/E2": "644 0:0 two", "etc/motd": "644 0:0 hello"}},
	{name: "run", dockerfile: "FROM base\nRUN echo out; echo err >&2\nRUN [\"echo\", \"no shell: $HOME\"]\nWORKDIR /some/where\nRUN pwd > /pwd\nUSER app\nRUN id -u && id -g && echo home is $HOME", log: "no shell: $HOME\n42\n0\nhome is /home/app\n", want: map[string]string{"pwd": "644 0:0 /some/where", "some/where": "755 0:0 dir"}},
	{name: "run deletes and replaces", dockerfile: "FROM base\nCOPY a /d/a\nCOPY a /d/e/f\nRUN rm -r /d/e && rm /d/a && mkdir /d/a && rm /etc/group\nRUN ls -R /d", files: map[string]string{"a": "1"}, want: map[string]string{"d/a": "755 0:0 dir", "d/e": "", "etc/group": ""}},
	{name: "run leaves nothing of what it was mounted on", dockerfile: "FROM scratch\nCOPY --from=base /bin /bin\nENV PATH=/bin\nRUN --mount=type=tmpfs,target=/a/b/c --mount=type=bind,source=f,target=/x/f echo done > /made", files: map[string]string{"f": "1"},
		want: map[string]string{"made": "644 0:0 done", "dev": "", "proc": "", "sys": "", "etc": "", "a": "", "x": ""},
		check: func(t *testing.T, w *world, b built) {
			if got := w.last(b); !slices.Equal(got, []string{"made"}) {
				t.Errorf("the layer has %q", got)
			}
		}},
	{name: "an empty step is an empty layer", dockerfile: "FROM base\nRUN true\nRUN true\nRUN true", check: func(t *testing.T, w *world, b built) {
		if len(b.DiffIDs) != 4 || len(w.last(b)) != 0 || b.DiffIDs[1] != b.DiffIDs[3] {
			t.Errorf("%v %q", b.DiffIDs, w.last(b))
		}
	}},
	{name: "stages", dockerfile: "FROM base AS build\nRUN mkdir /out && echo made > /out/prog\nFROM base AS unused\nRUN false\nFROM scratch\nCOPY --from=build /out /\nCOPY --from=base /etc/group /group",
		want: map[string]string{"prog": "644 0:0 made", "group": "644 0:0 root:x:0:\nappgroup:x:43:\nstaff:x:50:"}, check: func(t *testing.T, w *world, b built) {
			if len(b.DiffIDs) != 2 {
				t.Error(b.DiffIDs)
			}
		}},
	{name: "a stage on a stage", dockerfile: "FROM base AS one\nRUN echo 1 > /one\nFROM one AS two\nRUN cat /one > /two\nFROM two\nRUN cat /one /two > /three", want: map[string]string{"three": "644 0:0 1\n1"}},
	{name: "target", dockerfile: "FROM base AS one\nRUN echo 1 > /one\nFROM one\nRUN false", change: func(r *Request, _ *local) { r.Target = "one" }, want: map[string]string{"one": "644 0:0 1"}},
	{name: "args", dockerfile: "ARG IMG=nosuch\nFROM $IMG\nARG A=1\nARG B\nRUN echo a=$A b=$B proxy=$http_proxy", change: func(r *Request, _ *local) {
		r.Args = map[string]string{"IMG": "base", "B": "2", "http_proxy": "http://p"}
	}, log: "a=1 b=2 proxy=http://p\n", check: func(t *testing.T, w *world, b built) {
		if strings.Contains(string(b.Config), "http://p") {
			t.Errorf("the proxy is in the image: %s", b.Config)
		}
	}},
	{name: "bind mounts", dockerfile: "FROM base AS other\nRUN mkdir /o && echo other > /o/f\nFROM base\nRUN --mount=type=bind,target=/ctx --mount=type=bind,from=other,source=/o,target=/mnt/o --mount=type=bind,source=d/a,target=/one cat /ctx/d/a /mnt/o/f /one && ! touch /ctx/x\nRUN --mount=type=bind,target=/ctx,rw echo mine > /ctx/new && cat /ctx/new /ctx/d/a", files: map[string]string{"d/a": "ctx"},
		log: "ctxother\nctx", want: map[string]string{"ctx": "", "mnt": "", "one": ""}},
	{name: "cache mounts", dockerfile: "FROM base\nRUN --mount=type=cache,target=/c echo 1 >> /c/f\nRUN --mount=type=cache,target=/c echo 2 >> /c/f; cat /c/f\nRUN --mount=type=cache,id=/c,target=/else,sharing=locked cat /else/f\nRUN --mount=type=cache,target=/mine,uid=42,gid=43,mode=0711 stat -c '%u:%g %a' /mine\nRUN --mount=type=cache,target=/full,from=base,source=/etc cat /full/group", log: "1\n2\n1\n2\n42:43 711\nroot:x:0:\n", want: map[string]string{"c": "", "else": ""}},
	{name: "secrets", dockerfile: "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s\nRUN --mount=type=secret,id=s,target=/etc/key,mode=0440,uid=42 stat -c '%u %a' /etc/key\nRUN --mount=type=secret,id=s,env=TOKEN echo token $TOKEN\nRUN --mount=type=secret,id=no,target=/etc/no ls /etc/no; true",
		change: func(_ *Request, l *local) { l.secrets = map[string]string{"s": "xyzzy42\n"} }, log: "xyzzy42\n42 440\ntoken xyzzy42\n", want: map[string]string{"etc/key": "", "run/secrets": "", "etc/no": ""},
		check: func(t *testing.T, w *world, b built) {
			for _, id := range b.DiffIDs {
				r, err := w.layers.Tar(id)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				var all strings.Builder
				if _, err := copyAll(&all, r); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(all.String(), "xyzzy42") {
					t.Error("the secret is in a layer")
				}
			}
		}},
	{name: "tmpfs", dockerfile: "FROM base\nRUN --mount=type=tmpfs,target=/t,size=1m ! dd if=/dev/zero of=/t/f bs=1k count=4000 2>/dev/null && stat -c %a /t", log: "1777\n", want: map[string]string{"t": ""}},
	{name: "mounts in mounts", dockerfile: "FROM base\nRUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/c/t --mount=type=bind,source=f,target=/c/t/d/f cat /c/t/d/f", files: map[string]string{"f": "deep\n"}, log: "deep\n", want: map[string]string{"c": ""}},
	{name: "network none", dockerfile: "FROM base\nRUN --network=none ! ip link | grep UP", check: func(t *testing.T, w *world, b built) {
		w.exec.mu.Lock()
		defer w.exec.mu.Unlock()
		if w.exec.seen[0].Network != "none" {
			t.Errorf("%+v", w.exec.seen[0])
		}
	}},
	{name: "environment of a step", dockerfile: "FROM base\nENV X=1 Y=$X\nRUN env | sort", log: "HOME=/root\n", check: func(t *testing.T, w *world, b built) {
		w.exec.mu.Lock()
		defer w.exec.mu.Unlock()
		s := w.exec.seen[0]
		if s.Hostname != "buildkitsandbox" || s.Cwd != "/" || !slices.Contains(s.Env, "PATH=/bin") || !slices.Contains(s.Env, "X=1") {
			t.Errorf("%+v", s)
		}
	}},
	{name: "options reach a step", dockerfile: "FROM base\nRUN cat /etc/hosts; hostname", change: func(r *Request, _ *local) {
		r.ExtraHosts, r.Hostname, r.ShmSize = []solverHost{{Name: "db", IP: "10.1.2.3"}}, "builder", 1<<20
	}, log: "10.1.2.3 db\nbuilder\n", check: func(t *testing.T, w *world, b built) {
		w.exec.mu.Lock()
		defer w.exec.mu.Unlock()
		if s := w.exec.seen[0]; s.ShmSize != 1<<20 || len(s.Mounts) != 0 {
			t.Errorf("%+v", s)
		}
	}},
	{name: "configuration", dockerfile: "FROM base\nENV A=1\nLABEL l=\"x y\"\nEXPOSE 80 53/udp\nVOLUME /data\nUSER app\nWORKDIR /w\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/sh\", \"-ec\"]\nHEALTHCHECK --interval=5s CMD true\nENTRYPOINT [\"/e\"]\nCMD arg", check: func(t *testing.T, w *world, b built) {
		c := b.img.Config
		raw := string(b.Config)
		for _, want := range []string{`"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000`, `"Shell":["/bin/sh","-ec"]`, `"53/udp":{}`, `"80/tcp":{}`} {
			if !strings.Contains(raw, want) {
				t.Errorf("no %s in %s", want, raw)
			}
		}
		if c.Labels["l"] != "x y" || c.User != "app" || c.WorkingDir != "/w" || c.StopSignal != "SIGINT" || !slices.Equal(c.Entrypoint, []string{"/e"}) || !slices.Equal(c.Cmd, []string{"/bin/sh", "-ec", "arg"}) {
			t.Errorf("%s", raw)
		}
		if h := b.img.History; len(h) != 12 || h[0].CreatedBy != "the test" || !h[1].EmptyLayer || !strings.HasPrefix(h[1].CreatedBy, "ENV A=1") {
			t.Errorf("%+v", h)
		}
	}},
	{name: "onbuild", dockerfile: "FROM trigger\n", files: map[string]string{"own": "1"}, want: map[string]string{"from/context": "644 0:0 1", "ran": "644 0:0 yes"}},
	{name: "a label and a platform of the request", dockerfile: "FROM base", change: func(r *Request, _ *local) { r.Labels = map[string]string{"given": "yes"} }, check: func(t *testing.T, w *world, b built) {
		if b.img.Config.Labels["given"] != "yes" || len(b.DiffIDs) != 1 || b.Steps != 0 {
			t.Errorf("%s", b.Config)
		}
	}},
	{name: "scratch and nothing", dockerfile: "FROM scratch\nCMD [\"x\"]", check: func(t *testing.T, w *world, b built) {
		if len(b.DiffIDs) != 0 {
			t.Error(b.DiffIDs)
		}
	}},
	{name: "named contexts", dockerfile: "FROM img\nCOPY --from=other a /a\nCOPY --from=other . /all", change: func(r *Request, l *local) {
		r.Contexts = map[string]string{"other": "local:other", "img": "docker-image://base"}
		l.sources["other"] = map[string]string{"a": "from other", ".dockerignore": "b", "b": ""}
	}, want: map[string]string{"a": "644 0:0 from other", "all/b": "", "all/a": "644 0:0 from other"}},
	{name: "a local context as a base", dockerfile: "FROM rootfs\nCOPY f /f", files: map[string]string{"f": "2"}, change: func(r *Request, l *local) {
		r.Contexts = map[string]string{"rootfs": "local:rootfs"}
		l.sources["rootfs"] = map[string]string{"etc/x": "1"}
	}, want: map[string]string{"etc/x": "644 0:0 1", "f": "644 0:0 2"}},
	{name: "a Dockerfile of another name", dockerfile: "FROM nosuch", files: map[string]string{"docker/Other": "FROM base\nCOPY f /f", "f": "1"}, change: func(r *Request, _ *local) { r.Dockerfile = "docker/Other" }, want: map[string]string{"f": "644 0:0 1"}},
	{name: "special files are copied", dockerfile: "FROM base AS b\nRUN mkdir /s && mkfifo /s/fifo && mknod /s/null c 1 3 && echo x > /s/f && ln /s/f /s/hard && ln -s f /s/soft && touch /s/t && chmod 1777 /s\nFROM scratch\nCOPY --from=b /s /s",
		want: map[string]string{"s": "755 0:0 dir", "s/fifo": "644 0:0 special 10000 0", "s/null": "644 0:0 special 20000 259", "s/hard": "644 0:0 x", "s/soft": "-> f"}},
}

func TestStories(t *testing.T) {
	w := newWorld(t)
	w.addRaw("trigger", baseFiles(), map[string]any{"OnBuild": []string{"COPY own /from/context", "RUN echo yes > /ran"}, "Env": []string{"PATH=/bin"}})
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			w.t = t
			w.exec.mu.Lock()
			w.exec.seen = nil
			w.exec.mu.Unlock()
			files := map[string]string{"Dockerfile": s.dockerfile}
			for k, v := range s.files {
				files[k] = v
			}
			src := w.local(files)
			b := w.build(src, func(r *Request) {
				if s.change != nil {
					s.change(r, src)
				}
			})
			if !strings.Contains(b.log, s.log) {
				t.Errorf("the steps said\n%s\nwithout\n%s", b.log, s.log)
			}
			if len(b.DiffIDs) > 0 {
				got := w.files(b)
				for p, want := range s.want {
					if got[p] != want {
						t.Errorf("%s: %q, want %q", p, got[p], want)
					}
				}
			}
			if s.check != nil {
				s.check(t, w, b)
			}
			again := w.build(src, func(r *Request) {
				if s.change != nil {
					s.change(r, src)
				}
			})
			if again.id != b.id || again.Cached != again.Steps {
				t.Errorf("built again it is another image (%d of %d steps cached):\n%s\n%s", again.Cached, again.Steps, b.Config, again.Config)
			}
		})
	}
	w.t = t
}
