package solver

import "github.com/moby/buildkit/solver/pb"

// capabilities are what this solver executes of LLB; a graph that uses another is refused.
var capabilities = []string{
	string(pb.CapSourceImage), string(pb.CapSourceImageResolveMode),
	string(pb.CapSourceLocal), string(pb.CapSourceLocalUnique), string(pb.CapSourceLocalSessionID), string(pb.CapSourceLocalFollowPaths),
	string(pb.CapSourceLocalExcludePatterns), string(pb.CapSourceLocalSharedKeyHint), string(pb.CapSourceLocalDiffer),
	string(pb.CapSourceHTTP), string(pb.CapSourceHTTPChecksum), string(pb.CapSourceHTTPPerm),
	string(pb.CapExecMetaBase), string(pb.CapExecMetaCgroupParent), string(pb.CapExecMetaNetwork), string(pb.CapExecMetaProxy), string(pb.CapExecMetaSecurity),
	string(pb.CapExecMetaSetsDefaultPath), string(pb.CapExecMetaUlimit), string(pb.CapExecMetaRemoveMountStubsRecursive), string(pb.CapExecMetaLinuxResources),
	string(pb.CapExecMountBind), string(pb.CapExecMountBindReadWriteNoOutput), string(pb.CapExecMountCache), string(pb.CapExecMountCacheSharing),
	string(pb.CapExecMountSelector), string(pb.CapExecMountTmpfs), string(pb.CapExecMountTmpfsSize), string(pb.CapExecMountSecret),
	string(pb.CapExecMountSSH), // so that the refusal is ours, with a sentence
	string(pb.CapExecSecretEnv), string(pb.CapExecValidExitCode),
	string(pb.CapFileBase), string(pb.CapFileRmWildcard), string(pb.CapFileRmNoFollowSymlink), string(pb.CapFileCopyIncludeExcludePatterns),
	string(pb.CapFileCopyRequiredPaths), string(pb.CapFileCopyAlwaysReplaceExistingDestPaths), string(pb.CapFileCopyModeStringFormat), string(pb.CapFileSymlinkCreate),
	string(pb.CapConstraints), string(pb.CapPlatform), string(pb.CapMetaIgnoreCache), string(pb.CapMetaDescription), string(pb.CapMetaExportCache),
	string(pb.CapMergeOp), string(pb.CapDiffOp),
}

// Capabilities are the names of what LLB this solver executes, for front ends.
func Capabilities() []string { return append([]string(nil), capabilities...) }
