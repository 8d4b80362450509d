package session

// Entry is one name of a local source.
type Entry struct {
	// Path is slash-separated, relative, clean, without "." and "..", and never empty.
	Path string
	// Mode is st_mode of stat(2): type and permissions. The owner is left out: everything is 0:0.
	Mode uint32
	// Size is in bytes; regular files only.
	Size int64
	// Mtime and Ctime are nanoseconds since 1970.
	Mtime, Ctime int64
	Inode        uint64
	// Hardlink is the path of an earlier entry that is the same file, or "".
	Hardlink string
	// Link is where a symbolic link points.
	Link string
	// Rdev is a device's number, as stat(2) has it.
	Rdev uint64
	// Xattrs are extended attributes by name, sorted by it.
	Xattrs []Xattr
}

// Xattr is an extended attribute.
type Xattr struct{ Name, Value string }
