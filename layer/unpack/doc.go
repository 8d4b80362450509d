// Package unpack makes a directory of a layer file, where the kernel cannot mount it.
//
// It reads the EROFS image that package erofs wrote, not the tar inside: what overlayfs sees of the
// directory is then what it would see of the mounted file, whiteouts and opaque directories included.
// It promises that nothing outside of the directory is touched and that a damaged image is an error.
// It reads as much of the format as package erofs writes, and must not know where layers are kept.
package unpack
