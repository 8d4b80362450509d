package tree

import (
	"slices"

	"github.com/berth-engine/berth/build/session"
)

func sortPacks(ps []*pack) {
	slices.SortFunc(ps, func(a, b *pack) int { return a.used.Compare(b.used) })
}

func sortEntries(list []Entry) {
	slices.SortFunc(list, func(a, b Entry) int { return session.ComparePaths(a.Path, b.Path) })
}
