// Package roottar makes tars of trees below a root, and unpacks tars there, without ever leaving the
// root: everything is opened relative to an open directory, symbolic links are never followed in
// what is packed, and only inside the root on the way to where something is unpacked.
//
// `cp`, the filling of volumes, and export go through it. Layers don't: their tars are package
// layer's.
package roottar
