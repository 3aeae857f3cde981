/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit.c: no input may take a target over a second of CPU time. libFuzzer's own -timeout reads the clock, which runs on while a loaded
 * machine does something else. Linked into every target with --wrap: libFuzzer calls the wrapper in the target's place.
 */
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

int __real_LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);
int __wrap_LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* In the midst of what takes so long: libFuzzer prints where that is, and keeps the input. */
static void over (int number)
{
    static const char text[] = "limit.c: this case took over a second of CPU time\n";
    (void)number, (void)!write (STDERR_FILENO, text, sizeof text - 1);
    abort ();
}

static void set_timer (time_t seconds)
{
    const struct itimerval t = {.it_value.tv_sec = seconds};
    if (setitimer (ITIMER_PROF, &t, NULL) != 0)
        abort ();
}

int __wrap_LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (signal (SIGPROF, over) == SIG_ERR)
        abort ();
    set_timer (1);
    const int result = __real_LLVMFuzzerTestOneInput (data, size);
    set_timer (0);
    return result;
}
