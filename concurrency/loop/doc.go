// Package loop runs functions one at a time on one goroutine, as game and
// trading programs are written: state that only the loop touches needs no lock,
// and time is kept with the precision that is paid for.
//
// Functions come in through [Loop.Post], from any goroutine, into a queue with a
// limit; and through [Loop.After] and [Loop.At], at their time. They run on the
// goroutine that calls [Loop.Run], so whoever wants a thread for the loop alone
// calls [runtime.LockOSThread] before Run.
//
// # Precision
//
// A sleeping Go program wakes some hundred microseconds late, or a millisecond.
// [Loop.Spin] buys precision with processor time: the loop sleeps until that
// long before a timer is due, and polls the clock from then on. With 2 ms and a
// core to itself most timers fire within a few microseconds; BenchmarkLateness
// shows both. No function is called before its time.
//
// Nothing makes up for a function that takes long: all others wait for it.
// [Stats] tells both, how late timers were and how long the longest function
// took, so that a budget per frame or per tick can be watched.
//
// A tick that does not drift computes each time from the one before:
//
//	var tick func()
//	next := time.Now()
//	tick = func() {
//		world.Step(step)
//		next = next.Add(step)
//		l.At(next, tick)
//	}
//	l.At(next, tick)
//
// If a step takes longer than its time, the next ones are due at once, until
// the loop has caught up; posted functions run between them.
package loop
