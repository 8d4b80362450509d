// Package relay hands signals of this program on to another process, without waking Go.
//
// It owns the handling of those signals from Catch on, for the rest of the program's life: os/signal must not be used
// for them. It promises that a signal which came before there was anybody to have it is handed on when there is,
// and that it reaches the process that was meant or nobody (a pidfd). os/signal does the same with four threads more,
// which cost a short program as much as all else that it does. It must not know whose process it is.
package relay
