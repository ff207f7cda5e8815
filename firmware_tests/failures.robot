*** Settings ***
Documentation       Images that must fail, and how each failure shows. prepare.py builds them into \${FOLDER}.
Resource            ${RENODEKEYWORDS}
Resource            ${CURDIR}/../renode/tinygen.resource

*** Variables ***
${FOLDER}               /nowhere
${BOARD}                nucleo_f446re
${PLATFORM}             ${FOLDER}/${BOARD}.repl
${EXPECTED}             ${FOLDER}/expected.json
${INPUTS}               ${FOLDER}/inputs.bin
${VIRTUAL_SECONDS}      5

*** Test Cases ***
A Read Outside Memory Fails The Test
    Load Firmware    ${PLATFORM}    ${FOLDER}/read.elf    ${INPUTS}
    Run Firmware
    Run Keyword And Expect Error    *non existing peripheral*    Memory Should Not Have Been Left

A Write Outside Memory Fails The Test
    Load Firmware    ${PLATFORM}    ${FOLDER}/write.elf    ${INPUTS}
    Run Firmware
    Run Keyword And Expect Error    *non existing peripheral*    Memory Should Not Have Been Left

An Undefined Instruction Is Told As A Fault
    Load Firmware    ${PLATFORM}    ${FOLDER}/undefined.elf    ${INPUTS}
    ${log}=    Run Firmware
    Fault Should Be    ${log}    kind=exception
    Run Keyword And Expect Error    *the firmware faulted*    Log Should Be Whole    ${log}    ${EXPECTED}

An Overflowing Stack Is Found
    [Documentation]    By the memory protection unit. The M0 and M0+ have none, and the M33's stack limit is not modelled:
    ...    there Renode warns of the access below SRAM, again and again, so only 50,000 instructions run.
    Load Firmware    ${PLATFORM}    ${FOLDER}/overflow.elf    ${INPUTS}
    ${path}=    Allocate Temporary File
    Execute Command    sysbus.console CreateFileBackend @${path} true
    Create Log Tester    0
    Execute Command    emulation RunFor "0.0005"
    ${log}=    Read Log    ${path}
    ${inside}=    Run Keyword And Return Status    Memory Should Not Have Been Left
    IF    $inside    Fault Should Be    ${log}    kind=exception

A Silent Uart Fails The Test
    Load Firmware    ${PLATFORM}    ${FOLDER}/silent.elf    ${INPUTS}
    Run Keyword And Expect Error    *    Run Firmware

Another Start-Up Than The Board's Fails The Test
    ${prepared}=    Evaluate    os.path.exists($FOLDER + '/startup.elf')    modules=os
    Skip If    not ${prepared}    the board's reset state needs no start-up
    Load Firmware    ${PLATFORM}    ${FOLDER}/startup.elf    ${INPUTS}
    Run Firmware
    Run Keyword And Expect Error    *tinygen: the start-up*    Memory Should Not Have Been Left

A Wrong Output Fails The Test
    Load Firmware    ${PLATFORM}    ${FOLDER}/firmware.elf    ${INPUTS}
    ${log}=    Run Firmware
    Outputs Should Be Bit Exact    ${log}    ${EXPECTED}
    ${other}=    Replace First Output Byte    ${log}
    Run Keyword And Expect Error    model 0, sample 0, output 0*
    ...    Outputs Should Be Bit Exact    ${other}    ${EXPECTED}

More Instructions Than The Bound Fail The Test
    Load Firmware    ${PLATFORM}    ${FOLDER}/firmware.elf    ${INPUTS}
    ${log}=    Run Firmware
    ${slower}=    Slow Every Inference Down    ${log}
    Run Keyword And Expect Error    *instructions, at most*
    ...    Instructions Should Be Within Bound    ${slower}    ${EXPECTED}

*** Keywords ***
Replace First Output Byte
    [Arguments]    ${log}
    ${other}=    Evaluate    re.sub(r'(OUT 0 0 0 0 )(..)', lambda m: m[1] + '%02x' % (int(m[2], 16) ^ 1), $log)    modules=re
    RETURN    ${other}

Slow Every Inference Down
    [Arguments]    ${log}
    ${slower}=    Evaluate    re.sub(r'(?m)^(SAMPLE .* )(\\d+)$', lambda m: m[1] + str(2 * int(m[2])), $log)    modules=re
    RETURN    ${slower}
