/* What our sample needs of Zephyr's printk.h, for a PC. */
#ifndef STAND_IN_PRINTK_H
#define STAND_IN_PRINTK_H
#include <stdio.h>
#define printk printf
#endif
