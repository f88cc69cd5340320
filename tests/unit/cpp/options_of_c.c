/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the C macros fill in, for options_test.cpp to compare with.
 */
#include <manta/manta.h>

const struct manta_call_options call_options_of_c;
const struct manta_start_options start_options_of_c;
const struct manta_run_options run_options_of_c;

const struct manta_call_options call_options_of_c = {MANTA_CALL_OPTIONS};
const struct manta_start_options start_options_of_c = {MANTA_START_OPTIONS};
const struct manta_run_options run_options_of_c = {MANTA_RUN_OPTIONS};

static void doubler_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_nil(request);
}

MANTA_DEPLOYMENT(doubler, .call = doubler_call);
