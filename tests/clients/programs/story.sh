#!/bin/sh
# A developer's program with curl; it prints a JSON line for each step.
#
#     story.sh URL KEY
#
# What a step got back lies in the working directory: `STEP.body` and `STEP.head`.
set -eu

url=$1
key=$2
dated='api-version=2024-05-01-preview'
json='content-type: application/json'

# ask STEP CURL-ARGUMENT...: send a request and tell its status and how curl ended.
ask() {
    step=$1
    shift
    ended=0
    status=$(curl -q --silent --show-error --fail-with-body --header "api-key: $key" \
        --output "$step.body" --dump-header "$step.head" --write-out '%{http_code}' "$@") || ended=$?
    printf '{"step": "%s", "status": %s, "exit": %s}\n' "$step" "$status" "$ended"
}

# found STEP PATTERN: print the first string that stands behind a pattern in a step's answer.
found() {
    grep -o "$2\"[^\"]*\"" "$1.body" | head -n 1 | sed 's/.*"\([^"]*\)"$/\1/'
}

printf 'minute,words\n1,112\n2,131\n3,127\n' > table.csv
printf 'MZ\220\0\003\0\0\0\004\0\0\0\377\377\0\0' > setup.exe
# More than a mebibyte: of such a body curl first sends the head, and waits for `100 Continue`.
yes '2024-01-01,1234567890,abcdefghijklmnopqrstuvwxyz' | head -n 50000 > large.csv
printf -- '--form\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n' > form
printf -- '--form\r\nContent-Disposition: form-data; name="file"; filename="piped.csv"\r\n\r\n' >> form
cat table.csv >> form
printf -- '\r\n--form--\r\n' >> form

files="$url/openai/files?$dated"
form='content-type: multipart/form-data; boundary=form'
ask upload --form purpose=assistants --form file=@table.csv "$files"
ask upload-typed --form purpose=assistants --form 'file=@table.csv;type=text/csv' "$files"
ask upload-named --form 'file=@table.csv;filename="Umsätze; \"neu\".csv"' \
    --form purpose=assistants "$files"
ask upload-large --form purpose=assistants --form file=@large.csv "$files"
ask upload-piped --form purpose=assistants --form 'file=@-;filename=piped.csv' "$files" < table.csv
ask upload-chunked --request POST --header "$form" --upload-file - "$files" < form
ask upload-chunked-by-name --header "$form" --header 'transfer-encoding: chunked' \
    --data-binary @form "$files"
ask upload-http-1-0 --http1.0 --form purpose=assistants --form file=@table.csv "$files"
ask upload-bearer --header 'api-key:' --header "authorization: Bearer $key" \
    --form purpose=assistants --form file=@table.csv "$url/openai/v1/files"
ask refused-upload --form purpose=assistants --form file=@setup.exe "$files"
ask list-files "$files"
file=$(found upload '"id":')

ask assistant --header "$json" --data-binary @- "$url/openai/assistants?$dated" << BODY
{
  "model": "gpt-4o",
  "tools": [{"type": "code_interpreter"}],
  "tool_resources": {"code_interpreter": {"file_ids": ["$file"]}}
}
BODY
assistant=$(found assistant '"id":')
ask thread --request POST "$url/openai/threads?$dated"
threads="$url/openai/threads"
thread="$threads/$(found thread '"id":')"
ask message --header "$json" --data-binary @- "$thread/messages?$dated" << BODY
{
  "role": "user",
  "content": "Please plot the words by minute",
  "attachments": [{"file_id": "$file", "tools": [{"type": "code_interpreter"}]}]
}
BODY
ask streamed-run --no-buffer --header "$json" "$thread/runs?$dated" \
    --data-binary "{\"assistant_id\": \"$assistant\", \"stream\": true}"
ask run --header "$json" --data-binary "{\"assistant_id\": \"$assistant\"}" "$thread/runs?$dated"
run=$(found run '"id":')
ask polled-run "$thread/runs/$run?$dated"
while grep -q '"status":"\(queued\|in_progress\)"' polled-run.body; do
    sleep 0.02
    ask polled-run "$thread/runs/$run?$dated"
done
ask steps "$thread/runs/$run/steps?$dated"
ask messages "$thread/messages?$dated"
picture=$(found messages '"image_file":{"file_id":')
ask download "$url/openai/files/$picture/content?$dated"
ask other-thread --request POST --header "$json" --data '' "$threads?$dated"
other="$threads/$(found other-thread '"id":')"
ask session-cap --header "$json" "$other/runs?$dated" \
    --data-binary "{\"assistant_id\": \"$assistant\"}"
ask delete-thread --request DELETE "$thread?$dated"
ask delete-assistant --request DELETE "$url/openai/assistants/$assistant?$dated"
ask delete-file --request DELETE "$url/openai/files/$file?$dated"
ask after-delete "$thread?$dated"

chat="$url/openai/v1/chat/completions"
question='"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]'
ask chat --header "$json" --data-binary "{$question}" "$chat"
ask chat-compressed --compressed --header "$json" --data-binary "{$question}" "$chat"
ask chat-http-1-0 --http1.0 --header "$json" --data-binary "{$question}" "$chat"
ask chat-chunked --header "$json" --header 'transfer-encoding: chunked' \
    --data-binary "{$question}" "$chat"
ask chat-streamed --no-buffer --header "$json" --data-binary "{$question, \"stream\": true}" "$chat"
ask chat-streamed-http-1-0 --http1.0 --header "$json" \
    --data-binary "{$question, \"stream\": true}" "$chat"
ask embeddings --header "$json" "$url/openai/v1/embeddings" \
    --data-binary '{"model": "text-embedding-3-small", "input": "one"}'
ask response --header "$json" "$url/openai/v1/responses" \
    --data-binary '{"model": "gpt-4o", "input": "hello"}'
