package tree

import "github.com/berth-engine/berth/build/session/ignore"

// Exclude returns the tree without what the patterns of .dockerignore's language match. Everything must
// have been loaded. A directory stays where something in it does.
func (t *Tree) Exclude(patterns []string) (*Tree, error) {
	m, err := ignore.New(patterns)
	if err != nil {
		return nil, err
	}
	if m.Empty() {
		return t, nil
	}
	keep := make([]bool, len(t.Entries))
	parents := map[string]ignore.Parent{}
	for i := range t.Entries {
		e := &t.Entries[i]
		hit, below := m.Match(e.Path, parents[dirOf(e.Path)])
		keep[i] = !hit
		if e.IsDir() {
			parents[e.Path] = below
		}
	}
	// A directory comes before what is in it, so its last entry has been decided when it is asked.
	held := map[string]bool{}
	for i := len(t.Entries) - 1; i >= 0; i-- {
		e := &t.Entries[i]
		keep[i] = keep[i] || held[e.Path]
		if keep[i] {
			held[dirOf(e.Path)] = true
		}
	}
	return t.subset(keep), nil
}

// subset shares contents with t. A hard link whose first name is left out becomes that name's file.
func (t *Tree) subset(keep []bool) *Tree {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := t.store.New(nil, nil, nil)
	first := map[string]string{}
	for i := range t.Entries {
		if !keep[i] {
			continue
		}
		e := t.Entries[i]
		content, ok := t.content[i]
		if e.Hardlink != "" {
			j, _ := t.Find(e.Hardlink)
			if now, moved := first[e.Hardlink]; moved {
				e.Hardlink = now
			} else if !keep[j] {
				first[e.Hardlink] = e.Path
				content, ok = t.content[j]
				e.Sum, e.Size, e.Hardlink = t.Entries[j].Sum, t.Entries[j].Size, ""
			}
		}
		if ok {
			out.content[len(out.Entries)] = content
		}
		out.Entries = append(out.Entries, e)
	}
	return out
}

func dirOf(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '/' {
			return p[:i]
		}
	}
	return ""
}
