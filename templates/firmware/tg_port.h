/* tinygen: what a program needs of the machine it runs on. One implementation per board, one for the host.
 * Generated code: it belongs to whoever generated it. */
#ifndef TG_PORT_H
#define TG_PORT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Console and timer ready to use. Call once. */
void tg_port_init(void);

/* One character to the console; waits until there is room. */
void tg_console_put(char c);

/* The next character from the console, 0 to 255; waits for it. -1: none will ever come (the host alone knows). */
int tg_console_get(void);

/* Text, a number, a signed number, the last `digits` hexadecimal digits. */
void tg_put_text(const char *text);
void tg_put_number(uint32_t value);
void tg_put_signed(int32_t value);
void tg_put_hex(uint32_t value, uint32_t digits);

/* Free-running 32-bit up-counter; wraps. */
uint32_t tg_timer_read(void);

/* The counter, read by a call that is never inlined: the number of instructions between two calls is exact. */
uint32_t tg_mark(void);

/* Input block: words that the emulator or debugger fills before the start. Bounds are 4-byte aligned. */
uint32_t *tg_input_begin(void);
const uint32_t *tg_input_end(void);

/* Stack bytes used since the start (painted, then measured), and how many there are; 0 where not measured. */
uint32_t tg_stack_used(void);
uint32_t tg_stack_size(void);

#ifdef __cplusplus
}
#endif

#endif
