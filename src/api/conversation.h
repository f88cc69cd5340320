/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conversation: an accepted websocket inside a replica (<manta/websocket.h>).
 */
#ifndef MANTA_API_CONVERSATION_H
#define MANTA_API_CONVERSATION_H

struct conversation;

/* More of what the client says is here, or its end (helm held). */
void conversation_on_arrival(struct conversation *conversation);

#endif
