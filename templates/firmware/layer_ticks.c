#define TG_TICKS_PER_LINE 12U

/* LAYERS model sample first ticks... of the inference that ended: of the layers from `first` on. */
static void put_layer_ticks(const tg_model *model, uint32_t index, uint32_t sample, uint32_t status)
{
    for (uint32_t first = 0; status == 0U && first < model->profile_steps; first += TG_TICKS_PER_LINE) {
        const uint32_t numbers[3] = {index, sample, first};
        tg_put_text("LAYERS");
        put_numbers(numbers, 3);
        for (uint32_t i = first; i < model->profile_steps && i < first + TG_TICKS_PER_LINE; ++i) {
            const uint32_t ticks = model->profile_ticks(0, i);
            put_numbers(&ticks, 1);
        }
        tg_console_put('\n');
    }
}
