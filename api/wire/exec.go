package wire

// ExecProtocol is what `berth exec` asks to upgrade to. The stream is Docker's; only an exec that could not be
// started is answered with a status and the error, not with a stream that says why.
const ExecProtocol = "berth"
