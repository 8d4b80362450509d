package tree

import "slices"

func sortPacks(ps []*pack) {
	slices.SortFunc(ps, func(a, b *pack) int { return a.used.Compare(b.used) })
}
