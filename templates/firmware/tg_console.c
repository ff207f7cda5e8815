/* tinygen: text and numbers on the board's console; see tg_port.h.
 * Generated code: it belongs to whoever generated it. */
#include "tg_port.h"

void tg_put_text(const char *text)
{
    while (*text != '\0') {
        tg_console_put(*text++);
    }
}

void tg_put_number(uint32_t value)
{
    char digits[10];
    uint32_t count = 0;
    do {
        digits[count++] = (char)('0' + (char)(value % 10U));
        value /= 10U;
    } while (value != 0U);
    while (count > 0U) {
        tg_console_put(digits[--count]);
    }
}

void tg_put_hex(uint32_t value, uint32_t digits)
{
    static const char alphabet[] = "0123456789abcdef";
    while (digits-- > 0U) {
        tg_console_put(alphabet[(value >> (4U * digits)) & 15U]);
    }
}

void tg_put_signed(int32_t value)
{
    if (value < 0) {
        tg_console_put('-');
    }
    tg_put_number(value < 0 ? 0U - (uint32_t)value : (uint32_t)value);
}
